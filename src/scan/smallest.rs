//! Keeps the smallest of many items, and counts all of them.

use std::collections::BinaryHeap;

/// The smallest of all items that were added, and the number of all items.
#[derive(Debug)]
pub struct Smallest<T> {
    limit: usize,
    kept: BinaryHeap<T>,
    /// The number of items that were added.
    pub count: u64,
}

impl<T: Ord> Smallest<T> {
    /// Makes a collection that keeps at most `limit` items.
    pub fn new(limit: usize) -> Self {
        Self { limit, kept: BinaryHeap::new(), count: 0 }
    }

    /// Adds an item. `make` is called only if the item is kept. `is_too_large` tells whether the item is at least as
    /// large as a kept one.
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
