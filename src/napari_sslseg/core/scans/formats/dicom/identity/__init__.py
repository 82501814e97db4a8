"""Names of series and pseudonyms of patients, without words that identify a person.

What distinguishes the volumes of a series is in ``phases``.
"""
