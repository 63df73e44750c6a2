//! Finds a bucket of the database by its name.

use super::{
    bounds::Bounds,
    bytes::u64_at,
    damage::{BoltError, DamageList, PageDamage, PageError},
    leaf::Leaf,
    page::inline_count,
    reader::TreeReader,
    subtree::Subtree,
    visitor::LeafVisitor,
};

/// The length in bytes of the head of a bucket's value: the number of its root page, and a counter.
const BUCKET: usize = 16;

/// Finds the bucket `name`, and returns its tree. A small bucket has no tree: its only leaf is stored in its value. The
/// visitor gets such a leaf, and `None` is returned.
///
/// Which pages were used before is forgotten first, because each search begins at the root again.
///
/// # Errors
/// When there is no such bucket, or it cannot be read.
pub fn find_bucket(
    reader: &mut TreeReader<'_>,
    name: &'static str,
    visitor: &mut impl LeafVisitor,
) -> Result<Option<Subtree>, BoltError> {
    let mut search = BucketSearch { name: name.as_bytes(), found: None, damage: DamageList::default() };
    reader.database.forget_use();
    reader.descend(&reader.database.root(), &mut search);
    if search.found.is_none()
        && let Some(PageDamage { page, error, .. }) = search.damage.pop()
    {
        return Err(BoltError::LostBucket { name, page, error });
    }
    visitor.damages().append(search.damage);
    match search.found {
        None => Err(BoltError::NoBucket(name)),
        Some((_, Bucket::Tree(page))) => Ok(Some(reader.database.tree(page))),
        Some((page, Bucket::Inline(start, bytes))) => {
            visit_inline(page, (start, &bytes), visitor);
            Ok(None)
        }
    }
}

/// The place of a bucket's keys and values.
enum Bucket {
    /// The bucket has a tree with this root page.
    Tree(u64),
    /// The bucket has one leaf, which is stored in the value instead of a tree. Contains its position in the file, and
    /// its bytes.
    Inline(u64, Box<[u8]>),
}

/// A visitor that looks for one bucket in all leaves.
struct BucketSearch {
    name: &'static [u8],
    /// The bucket, and the page that contains its name.
    found: Option<(u64, Bucket)>,
    damage: DamageList,
}

impl LeafVisitor for BucketSearch {
    fn leaf(&mut self, page: u64, leaf: &Leaf<'_>) {
        let name = self.name;
        for element in leaf.backwards().filter(|element| element.key == name) {
            let bucket = element.is_bucket.then(|| u64_at(element.value, 0)).flatten().map(|root| match root {
                0 => {
                    let leaf = element.value.get(BUCKET..).unwrap_or_default();
                    Bucket::Inline(element.value_start + BUCKET as u64, leaf.into())
                }
                root => Bucket::Tree(root),
            });
            match bucket {
                Some(bucket) => self.found = Some((page, bucket)),
                None => self.damage(PageDamage {
                    page,
                    error: PageError::Kind { index: element.index, found: "a value", expected: "a bucket" },
                    bounds: None,
                }),
            }
        }
    }

    fn damages(&mut self) -> &mut DamageList {
        &mut self.damage
    }
}

/// Visits the leaf in a bucket's value. `page` is the page that contains the value.
fn visit_inline(page: u64, (start, bytes): (u64, &[u8]), visitor: &mut impl LeafVisitor) {
    let bounds = Bounds::default();
    let leaf = inline_count(bytes).and_then(|count| Leaf::check(start, bytes, count, &bounds));
    match leaf {
        Ok(leaf) => visitor.leaf(page, &leaf),
        Err(error) => visitor.damage(PageDamage { page, error, bounds: Some(Bounds::default()) }),
    }
}
