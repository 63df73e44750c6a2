//! Objects on standard output, one after the other.
//!
//! As manifests, they are documents of YAML, each after a comment with its key. JSON is YAML, too. An object that has
//! no such form is in a comment, so that `kubectl apply` takes the rest. As raw bytes, each is after a line that says
//! how long it is.

use std::io::{self, Write};

use zeroize::Zeroizing;

use crate::{
    recover::{Form, OpenedObject, OpenedPart},
    text::base64,
};

/// Writes objects as a stream.
pub(super) struct ObjectStream<W> {
    pub(super) out: W,
    pub(super) form: Form,
    /// Whether there is one object, whose raw bytes need no line before them.
    pub(super) is_one: bool,
}

impl<W: Write> ObjectStream<W> {
    /// Writes the objects of a part.
    pub(super) fn write(&mut self, part: &OpenedPart) -> io::Result<()> {
        let mut rest = part.bytes.as_slice();
        for object in &part.objects {
            let (bytes, after) = rest.split_at(object.length);
            rest = after;
            match self.form {
                Form::Raw => self.raw(object, bytes)?,
                Form::Manifest => self.document(object, bytes)?,
            }
        }
        self.out.flush()
    }

    fn raw(&mut self, object: &OpenedObject, bytes: &[u8]) -> io::Result<()> {
        if self.is_one {
            return self.out.write_all(bytes);
        }
        let OpenedObject { key, mod_revision, length, .. } = object;
        writeln!(self.out, "{length} {mod_revision} {} {key}", kind_of(object, "- -"))?;
        self.out.write_all(bytes)?;
        self.out.write_all(b"\n")
    }

    fn document(&mut self, object: &OpenedObject, bytes: &[u8]) -> io::Result<()> {
        let OpenedObject { key, mod_revision, ending, .. } = object;
        write!(self.out, "---\n# {key}, revision {mod_revision}")?;
        if matches!(*ending, "yaml" | "json") {
            self.out.write_all(b"\n")?;
            self.out.write_all(bytes)?;
            return if bytes.ends_with(b"\n") { Ok(()) } else { self.out.write_all(b"\n") };
        }
        let stored = Zeroizing::new(base64(bytes));
        writeln!(self.out, ": {}, as it is stored ({ending}), in base64", kind_of(object, "of an unknown type"))?;
        writeln!(self.out, "# {}", *stored)
    }
}

/// The group, version and kind of an object.
fn kind_of(object: &OpenedObject, unknown: &str) -> String {
    object.kind.as_ref().map_or_else(|| unknown.to_owned(), ToString::to_string)
}
