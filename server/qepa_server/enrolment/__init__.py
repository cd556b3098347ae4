"""Which boards there are: enrolment by the key dock."""
