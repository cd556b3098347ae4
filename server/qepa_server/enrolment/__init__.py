"""Which boards there are: enrolment and retirement by the key dock."""
