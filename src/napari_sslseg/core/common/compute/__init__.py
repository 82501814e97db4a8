"""Devices, threads, memory, random numbers, and several processes that train together.

Nothing here knows what is trained.
"""
