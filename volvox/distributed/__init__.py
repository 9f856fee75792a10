"""Start the processes of one training, on one machine or on several, and end all of them when one fails.

Standard library only, and no torch: what the processes do is their own affair.
"""
