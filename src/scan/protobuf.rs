//! Reads the fields of a protobuf message one after the other, without copying and without a schema.
//!
//! Source: the encoding of protocol buffers, <https://protobuf.dev/programming-guides/encoding/>. Groups, which the
//! language no longer has, are not read.

use prost::encoding::decode_varint;

/// The value of a field, as its wire type gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// A number, in the variable-length encoding.
    Varint(u64),
    /// Bytes, a string or another message.
    Bytes(&'a [u8]),
    /// Four or eight bytes. The messages that the scanner reads have no such field.
    Fixed,
}

/// Iterates over the fields of a message, each with its tag. If a field cannot be read, `None` is returned for it as
/// the last item.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u32, Field<'a>)>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    #[inline]
    fn read(&mut self) -> Option<(u32, Field<'a>)> {
        let key = u32::try_from(self.varint()?).ok()?;
        let tag = Some(key >> 3).filter(|tag| *tag > 0)?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => self.skip(8).map(|_| Field::Fixed)?,
            2 => Field::Bytes(self.bytes()?),
            5 => self.skip(4).map(|_| Field::Fixed)?,
            _ => return None,
        };
        Some((tag, field))
    }

    /// Reads a number. The loop handles numbers of up to four bytes, because a scan reads millions of short ones.
    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for (at, byte) in self.0.iter().take(4).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Some(number);
            }
        }
        decode_varint(&mut self.0).ok()
    }

    /// Reads a length, and as many bytes.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.skip(length)
    }

    fn skip(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}
