//! Things that happen at once, and when exactly.

use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use store::{Error, Store, Write};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::fixtures::keep;

/// The five seconds for which the store itself waits, and a slow machine on top.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5 + 20);

/// Runs as many tasks at once and returns what each returned.
pub(crate) async fn at_once<T, F>(count: usize, task: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = (0..count).map(|number| tokio::spawn(task(number))).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

/// Begins what `future` does. A write is queued then.
///
/// # Panics
/// If that is all, and it is ready.
pub(crate) fn begin<F: Future>(mut future: Pin<&mut F>) {
    assert!(future.as_mut().now_or_never().is_none(), "it was to wait");
}

/// Where one waits for another. It is closed at first, and stays open once it is.
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    pub(crate) fn closed() -> &'static Self {
        keep(Self(watch::Sender::new(false)))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    pub(crate) async fn pass(&self) {
        self.0.subscribe().wait_for(|open| *open).await.unwrap();
    }
}

/// A write that has begun and stands still. On SQLite no other begins meanwhile.
pub(crate) struct Pause {
    end: &'static Gate,
    write: JoinHandle<Result<(), Error>>,
}

impl Pause {
    pub(crate) async fn begin(store: &Store) -> Self {
        let (begun, end) = (Gate::closed(), Gate::closed());
        let store = store.clone();
        let pause = async move |_: &mut Write| {
            begun.open();
            end.pass().await;
            Ok(())
        };
        let write = tokio::spawn(async move { store.write(pause).await });
        begun.pass().await;
        Self { end, write }
    }

    pub(crate) async fn end(self) {
        self.end.open();
        self.write.await.unwrap().unwrap();
    }
}
