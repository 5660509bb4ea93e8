//! What scanners say of a mail. Today: a header field that a scanner before us has put in.

pub mod upstream;

pub use upstream::Upstream;
