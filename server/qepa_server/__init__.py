"""The hospital's server: opens sums of whole cells, trains, signs models, and shows what consents allow.

README.md one folder up says which package does what.
"""
