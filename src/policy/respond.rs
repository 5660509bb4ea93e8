//! Stage: respond.
