"""The dispatcher: takes jobs from the inbox, has them answered by runtimes, puts the answers where they belong."""
