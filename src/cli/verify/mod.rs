//! `claviger verify`: scans every etcd, and proves that every value is under the primary key, or says what is left.
//!
//! ```text
//! run -> input, earlier, verified, files, text, json, hints;   files -> html;   text, html, json, verified -> words -> verified
//! ```

mod earlier;
mod files;
mod hints;
#[cfg(feature = "html")]
mod html;
mod input;
mod json;
mod run;
mod text;
mod verified;
mod words;

pub(super) use self::{
    files::KeptArgs,
    input::VerifyInput,
    run::{VerifyArgs, VerifyRequest, run, verify_unchanged},
    text::page,
    verified::Verified,
};
