//! What scanners say of a mail. Today: a header field that a scanner before us has put in.

pub mod cure;
pub mod upstream;

pub use cure::{Cure, Remains, cure};
pub use upstream::Upstream;
