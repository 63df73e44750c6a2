//! Tests with other sinks than the tally: one that takes values, and one that ends the scan.

use std::{fs, ops::ControlFlow};

use super::{
    super::{
        super::{
            forge::{self, Shape},
            names::Names,
            object::{Object, Sink},
            outcome::{Incomplete, ScanOutcome},
            summarizer::Summarizer,
        },
        Options, scan,
    },
    scanned::{SECRET, changes, key_names},
};

/// A sink that keeps the keys and values of live objects, up to a limit, and the values of older ones.
#[derive(Default)]
struct Kept {
    limit: usize,
    live: Vec<(String, Vec<u8>)>,
    older: Vec<Vec<u8>>,
}

impl Sink for Kept {
    const NEEDS_VALUES: bool = true;

    fn object(&mut self, object: &Object<'_>) -> ControlFlow<()> {
        self.live.push((String::from_utf8(object.key.to_vec()).unwrap(), value_of(object)));
        if self.live.len() == self.limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn older(&mut self, object: &Object<'_>) -> ControlFlow<()> {
        self.older.push(value_of(object));
        ControlFlow::Continue(())
    }

    fn forget(&mut self) -> bool {
        false
    }
}

fn value_of(object: &Object<'_>) -> Vec<u8> {
    object.value.unwrap().keep().read(&mut Vec::new()).unwrap().to_vec()
}

fn kept(bytes: &[u8], limit: usize) -> (Kept, ScanOutcome) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let summarizer = Summarizer::new(Names::new("/registry"), [3; 16]);
    let mut kept = Kept { limit, ..Kept::default() };
    let options = Options { digest: false, progress: &mut |_, _| {} };
    let outcome = scan(file.path(), &summarizer, &mut kept, options).unwrap();
    (kept, outcome)
}

#[test]
fn a_sink_that_needs_values_gets_each_with_its_key() {
    let (a, b): (&[u8], &[u8]) = (b"/registry/secrets/a/a", b"/registry/secrets/a/b");
    let (old, long) = ([SECRET, b"old"].concat(), [SECRET, &[7; 9000]].concat());
    let changes = [
        ((2, 0), a, Some(&old[..])),
        ((3, 0), b, Some(&long[..])),
        ((4, 0), a, Some(SECRET)),
        ((5, 0), b"/registry/secrets/a/c", Some(SECRET)),
        ((6, 0), b"/registry/secrets/a/c", None),
    ];
    let (kept, outcome) = kept(&forge::database(Shape::default(), &changes), usize::MAX);
    let expected = [("/registry/secrets/a/a", SECRET), ("/registry/secrets/a/b", &long)];
    assert_eq!(kept.live, expected.map(|(key, value)| (key.to_owned(), value.to_vec())));
    assert_eq!((kept.older, outcome.incomplete), (vec![SECRET.to_vec(), old], vec![]));
}

#[test]
fn a_sink_can_end_the_scan_which_is_then_incomplete() {
    let keys = key_names(5000);
    let shape = Shape { page_size: 512, leaf: 2, branch: 4, compacted: None };
    let database = forge::database(shape, &changes(&keys));
    for limit in [1, 2, 2500, 5000] {
        let (kept, outcome) = kept(&database, limit);
        assert_eq!((kept.live.len(), outcome.incomplete), (limit, vec![Incomplete::Ended]));
        // The newest object comes first.
        assert_eq!(kept.live[0].0, keys[4999]);
    }
    assert_eq!(Incomplete::Ended.to_string(), "the scan was ended before everything was read");
}
