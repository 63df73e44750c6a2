//! All integration tests, one binary: they share a control plane and one build.

mod architecture;
mod cli;
mod control_plane;
mod harness;
mod oracle;
