//! Mail that we write ourselves: receipt notices, auto-replies, virus reports, quarantine notices.
