"""Devices, threads, memory, random states and distributed processes.

Nothing about the network or the data that are trained.
"""
