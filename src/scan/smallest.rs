//! Keeps the smallest of many items, and counts all of them.

use std::collections::BinaryHeap;

/// The smallest items of all that were added, and how many were added.
#[derive(Debug)]
pub struct Smallest<T> {
    limit: usize,
    kept: BinaryHeap<T>,
    /// How many items were added.
    pub count: u64,
}

impl<T: Ord> Smallest<T> {
    /// Keeps at most `limit` items.
    pub fn new(limit: usize) -> Self {
        Self { limit, kept: BinaryHeap::new(), count: 0 }
    }

    /// Adds one item. `make` makes it, and is only called if the item is kept. `is_too_large` says whether the item is
    /// as large as a kept one or larger.
    pub fn add(&mut self, is_too_large: impl FnOnce(&T) -> bool, make: impl FnOnce() -> T) {
        self.count += 1;
        if self.kept.len() >= self.limit {
            if self.kept.peek().is_some_and(is_too_large) {
                return;
            }
            self.kept.pop();
        }
        self.kept.push(make());
    }

    /// Returns copies of the kept items in their order.
    pub fn sorted(&self) -> Vec<T>
    where
        T: Clone,
    {
        self.kept.clone().into_sorted_vec()
    }

    /// Returns the kept items in their order.
    pub fn into_sorted(self) -> Vec<T> {
        self.kept.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_are_kept_and_all_are_counted() {
        let mut smallest = Smallest::new(2);
        for number in [5, 3, 9, 3, 1] {
            smallest.add(|largest| *largest <= number, || number);
        }
        assert_eq!(smallest.sorted(), [1, 3]);
        assert_eq!((smallest.count, smallest.into_sorted()), (5, vec![1, 3]));
    }
}
