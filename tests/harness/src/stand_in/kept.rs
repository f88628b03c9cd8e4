//! What a stand-in remembers of what it took.

/// Things that were taken: all of them, or, from some moment on, only how many there were.
pub(crate) struct Kept<T> {
    things: Vec<T>,
    count: usize,
    only_count: bool,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { things: Vec::new(), count: 0, only_count: false }
    }
}

impl<T: Clone> Kept<T> {
    pub(crate) fn add(&mut self, thing: T) {
        self.count += 1;
        if !self.only_count {
            self.things.push(thing);
        }
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.things.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn only_count(&mut self) {
        self.only_count = true;
    }
}
