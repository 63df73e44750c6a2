//! Damages a whole database file at random, mostly in the fields that say how to read other bytes.

use super::super::hostile::random::Random;

/// Numbers that break a careless reader.
const EXTREMES: [u64; 12] =
    [0, 1, 2, 15, 16, 255, 4095, 65_535, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];

/// Damages the bytes of a database with pages of this size.
pub(super) fn damage(bytes: &mut Vec<u8>, page_size: usize, random: &mut Random) {
    for _ in 0..random.within(1, 8) {
        let pages = bytes.len() / page_size;
        if pages < 4 {
            return;
        }
        let start = random.within(2, pages - 1) * page_size;
        match random.below(10) {
            0 => random.flip(&mut bytes[start..start + page_size], 8),
            // The kind, the count, or the span of a page.
            1 => put(bytes, start + 8, 2, random.pick(&[1, 2, 4, 16, 0, 3])),
            2 => put(bytes, start + 10, 2, random.pick(&EXTREMES)),
            3 => put(bytes, start + 12, 4, number(random, pages)),
            // A field in the head of an element: a length, a place, a flag, or the page of a child.
            4 | 5 => {
                let field = start + 16 + 4 * random.below(page_size.min(1024) / 4 - 8);
                put(bytes, field, random.pick(&[4, 8]), number(random, pages));
            }
            // Copies a page to the place of another one, with or without its number.
            6 | 7 => {
                let other = random.within(2, pages - 1) * page_size;
                bytes.copy_within(start..start + page_size, other);
                if random.below(2) == 0 {
                    put(bytes, other, 8, (other / page_size) as u64);
                }
            }
            8 => {
                let keep = random.within(page_size, bytes.len());
                bytes.truncate(keep);
            }
            _ => {
                let length = random.within(1, page_size);
                let noise = random.bytes(length);
                bytes[start..start + length].copy_from_slice(&noise);
            }
        }
    }
}

/// Returns an extreme number, or the number of a page that exists or would be the next one.
fn number(random: &mut Random, pages: usize) -> u64 {
    if random.below(2) == 0 { random.pick(&EXTREMES) } else { random.within(0, pages + 2) as u64 }
}

fn put(bytes: &mut [u8], at: usize, length: usize, number: u64) {
    if let Some(field) = bytes.get_mut(at..at + length) {
        field.copy_from_slice(&number.to_le_bytes()[..length]);
    }
}
