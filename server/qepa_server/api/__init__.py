"""The HTTP side: enrolment, consents, state, ward page."""
