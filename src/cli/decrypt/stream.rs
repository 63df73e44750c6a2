//! Objects on standard output, one after the other.
//!
//! As manifests, they are documents of YAML, each after a comment with its key. JSON is YAML, too. An object that has
//! no such form is in a comment, so that `kubectl apply` takes the rest. Raw objects follow a line with their length.
//! Anyone who can write to etcd chooses keys and types, so these are escaped.

use std::io::{self, Write};

use zeroize::Zeroizing;

use crate::{
    recover::{Form, OpenedObject, OpenedPart},
    telemetry::escape,
    text::base64,
};

/// Writes objects to a stream, as YAML documents or as raw bytes.
pub(super) struct ObjectStream<W> {
    pub(super) out: W,
    pub(super) form: Form,
    /// Whether exactly one object is named, whose raw bytes need no line before them.
    pub(super) is_one: bool,
}

impl<W: Write> ObjectStream<W> {
    /// Writes the objects of `part`.
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
        writeln!(self.out, "{length} {mod_revision} {} {}", kind_of(object, "- -"), escape::line(key))?;
        self.out.write_all(bytes)?;
        self.out.write_all(b"\n")
    }

    fn document(&mut self, object: &OpenedObject, bytes: &[u8]) -> io::Result<()> {
        let OpenedObject { key, mod_revision, ending, .. } = object;
        write!(self.out, "---\n# {}, revision {mod_revision}", escape::line(key))?;
        if !object.is_authentic {
            self.out.write_all(b", not authenticated: anybody who can write to etcd may have written or changed it")?;
        }
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

/// Returns the group, version and kind of an object.
fn kind_of(object: &OpenedObject, unknown: &str) -> String {
    object.kind.as_ref().map_or_else(|| unknown.to_owned(), |kind| escape::line(&kind.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(key: &str, bytes: &[u8], ending: &'static str) -> OpenedPart {
        let object = OpenedObject {
            key: key.to_owned(),
            mod_revision: 7,
            kind: None,
            ending,
            is_authentic: false,
            length: bytes.len(),
        };
        OpenedPart { objects: vec![object], bytes: Zeroizing::new(bytes.to_vec()), unopened: Vec::new() }
    }

    fn written(form: Form, is_one: bool, part: &OpenedPart) -> String {
        let mut out = Vec::new();
        ObjectStream { out: &mut out, form, is_one }.write(part).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_key_cannot_add_a_document_or_a_line() {
        for line_break in ["\n", "\r", "\u{85}", "\u{2028}"] {
            let key = format!("/registry/secrets/a/b{line_break}---{line_break}kind: Pod");
            for form in [Form::Manifest, Form::Raw] {
                let stream = written(form, false, &part(&key, b"{}", "json"));
                let lines: Vec<&str> = stream.split(['\n', '\r', '\u{85}', '\u{2028}']).collect();
                assert!(lines.iter().all(|line| !line.starts_with("kind")), "{stream:?}");
                let expected = if form == Form::Raw { 3 } else { 4 };
                assert_eq!(lines.len(), expected, "{stream:?}");
            }
        }
    }

    #[test]
    fn what_has_no_form_is_in_a_comment_and_a_single_object_is_alone() {
        let raw = part("/registry/x", &[0, 0xff], "bin");
        let comment = "---\n# /registry/x, revision 7, not authenticated: anybody who can write to etcd may have written or \
                       changed it: of an unknown type, as it is stored (bin), in base64\n# AP8=\n";
        assert_eq!(written(Form::Manifest, false, &raw), comment);
        let text = part("/registry/x", b"text", "bin");
        assert_eq!(written(Form::Raw, true, &text), "text");
        assert_eq!(written(Form::Raw, false, &text), "4 7 - - /registry/x\ntext\n");
    }
}
