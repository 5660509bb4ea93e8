//! Stage: forward.
