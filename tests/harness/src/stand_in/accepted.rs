//! The accepted requests of a stand-in.

/// The accepted items and their number. After [`only_count`](Self::only_count), further items are only
/// counted.
pub(crate) struct Accepted<T> {
    items: Vec<T>,
    count: usize,
    only_count: bool,
}

impl<T> Default for Accepted<T> {
    fn default() -> Self {
        Self { items: Vec::new(), count: 0, only_count: false }
    }
}

impl<T: Clone> Accepted<T> {
    pub(crate) fn add(&mut self, item: T) {
        self.count += 1;
        if !self.only_count {
            self.items.push(item);
        }
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.items.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn only_count(&mut self) {
        self.only_count = true;
    }
}
