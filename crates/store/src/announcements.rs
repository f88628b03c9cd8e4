//! Announcements between processes that share a PostgreSQL database: that a new delivery is pending, and which
//! resources have changed. They are sent with `NOTIFY` and received with `LISTEN`.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::{AccountSid, ChallengeSid, FactorSid, Sid};
use sqlx::Executor as _;
use sqlx::postgres::{PgListener, PgNotification, PgPool};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::Error;
use crate::limits::{ACQUIRE_TIMEOUT, POSTGRES_POOL_SIZE};
use crate::postgres::Server;
use crate::read_write::Read;
use crate::retry::Retries;
use crate::values::bind;
use crate::writer::Writer;

/// The PostgreSQL notification channel on which processes announce pending deliveries.
const DELIVERIES_CHANNEL: &str = "countersign_deliveries";

/// The PostgreSQL notification channel on which processes announce changed resources.
const CHANGES_CHANNEL: &str = "countersign_changes";

/// Number of characters of a topic: those of a SID.
const TOPIC_CHARACTERS: usize = 34;

/// Number of characters of a process's tag.
const TAG_CHARACTERS: usize = 8;

/// Maximum number of topics in one notification, whose payload must be shorter than 8000 bytes.
const MAX_TOPICS: usize = (7999 - TAG_CHARACTERS) / TOPIC_CHARACTERS;

/// Time without notifications after which the listener checks whether its connection still works.
const LISTEN_KEEPALIVE: Duration = Duration::from_secs(30);

/// A resource whose changes are announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A challenge.
    Challenge(ChallengeSid),
    /// A factor and its challenges.
    Factor(FactorSid),
    /// An account, whose audit log has a new record.
    Account(AccountSid),
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Challenge(sid) => sid.fmt(f),
            Self::Factor(sid) => sid.fmt(f),
            Self::Account(sid) => sid.fmt(f),
        }
    }
}

impl FromStr for Topic {
    type Err = domain::sids::ParseSidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.get(..2) {
            Some(ChallengeSid::PREFIX) => text.parse().map(Self::Challenge),
            Some(FactorSid::PREFIX) => text.parse().map(Self::Factor),
            _ => text.parse().map(Self::Account),
        }
    }
}

/// The resources that may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// Only these resources.
    Of(HashSet<Topic>),
    /// Any resource.
    OfAny,
}

impl Default for Changes {
    fn default() -> Self {
        Self::Of(HashSet::new())
    }
}

impl Changes {
    /// Returns whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Of(topics) if topics.is_empty())
    }

    /// Adds other changes to these.
    pub fn add(&mut self, other: Self) {
        match (self, other) {
            (Self::Of(topics), Self::Of(others)) => topics.extend(others),
            (Self::OfAny, _) => {}
            (changes, Self::OfAny) => *changes = Self::OfAny,
        }
    }

    /// Returns the payloads of the notifications that announce these changes for the process with this tag.
    fn payloads(&self, tag: ProcessTag) -> Vec<String> {
        let topics: Vec<_> = match self {
            Self::OfAny => return vec![tag.to_string()],
            Self::Of(topics) => topics.iter().collect(),
        };
        let payload = |topics: &[&Topic]| {
            let topics = topics.iter().map(ToString::to_string);
            std::iter::once(tag.to_string()).chain(topics).collect()
        };
        topics.chunks(MAX_TOPICS).map(payload).collect()
    }

    /// Parses the payload of a notification. Returns no changes if it comes from the process with the tag `own`, and
    /// [`Changes::OfAny`] if it is in a format that this version does not know.
    fn from_payload(payload: &str, own: ProcessTag) -> Self {
        let (tag, topics) = payload.split_at_checked(TAG_CHARACTERS).unwrap_or_default();
        if tag == own.to_string() {
            return Self::default();
        }
        let topics = topics.as_bytes().chunks(TOPIC_CHARACTERS);
        let topics = topics.map(|topic| str::from_utf8(topic).ok()?.parse().ok());
        match topics.collect::<Option<HashSet<_>>>() {
            Some(topics) if !topics.is_empty() => Self::Of(topics),
            _ => Self::OfAny,
        }
    }
}

/// A random number that a process puts into its announcements. By this number it recognizes and ignores its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessTag(pub u32);

impl fmt::Display for ProcessTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// What one process announces to the others, or has received from them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// Whether a delivery is pending.
    pub has_deliveries: bool,
    /// The resources that may have changed.
    pub changes: Changes,
}

impl Announcement {
    /// Returns what a new connection counts as, because announcements may have been missed before.
    const fn of_anything() -> Self {
        Self { has_deliveries: true, changes: Changes::OfAny }
    }

    fn add(&mut self, other: Self) {
        self.has_deliveries |= other.has_deliveries;
        self.changes.add(other.changes);
    }

    fn from_notification(notification: &PgNotification, own: ProcessTag) -> Self {
        match notification.channel() {
            CHANGES_CHANNEL => {
                let changes = Changes::from_payload(notification.payload(), own);
                Self { has_deliveries: false, changes }
            }
            _ => Self { has_deliveries: true, changes: Changes::default() },
        }
    }
}

/// Announcements that were received and not read yet, combined into one.
#[derive(Clone, Default)]
struct Inbox(Arc<Mutex<Announcement>>);

impl Inbox {
    fn add(&self, received: Announcement) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(received);
    }

    fn take(&self) -> Announcement {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A stream of announcements from the other processes that share the database.
pub struct Announcements {
    inbox: Inbox,
    received: mpsc::Receiver<()>,
    listener: JoinSet<Result<Infallible, Error>>,
}

impl Announcements {
    /// Starts listening for announcements on `server`. Returns once the connection is listening. Changes that the
    /// process `own` has announced are ignored.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if no connection can be opened.
    pub(crate) async fn listen(server: Server, own: ProcessTag, writer: &Writer) -> Result<Self, Error> {
        let (sender, received) = mpsc::channel(1);
        let inbox = Inbox::default();
        let sender = Sender { inbox: inbox.clone(), sender, own };
        // A connection belongs to the runtime in which it was opened, so the listener runs on the store's writer
        // thread.
        let listener = writer.spawn(async move {
            // Allows one retry for each connection of a pool: after a database restart, every pooled connection may be
            // stale.
            let mut retries = Retries::at_most(POSTGRES_POOL_SIZE);
            loop {
                match listen(&server.pool_of_one(), &sender, &mut retries).await.map_err(Error::from) {
                    Err(error) if retries.allow(&error).await => {}
                    ended => return ended,
                }
            }
        });
        let mut announcements = Self { inbox, received, listener };
        // The first announcement signals that the connection is listening.
        announcements.next().await?;
        Ok(announcements)
    }

    /// Waits for the next announcement. Announcements that arrived since the previous call are combined into one. A new
    /// connection also counts as an announcement, because announcements sent while the connection was down are lost.
    ///
    /// # Errors
    /// Returns an error, such as [`Error::Unavailable`], if a lost connection cannot be replaced. Every later call then
    /// fails too.
    pub async fn next(&mut self) -> Result<Announcement, Error> {
        if self.received.recv().await.is_some() {
            return Ok(self.inbox.take());
        }
        match self.listener.join_next().await {
            Some(Ok(Err(error))) => Err(error),
            Some(Err(_)) | None => Err(Error::Unavailable(None)),
        }
    }
}

/// Where the listener puts announcements.
struct Sender {
    inbox: Inbox,
    sender: mpsc::Sender<()>,
    own: ProcessTag,
}

impl Sender {
    fn send(&self, announcement: Announcement) {
        self.inbox.add(announcement);
        // A full channel already says that the inbox is not empty.
        let _ = self.sender.try_send(());
    }
}

/// Listens on a new connection and forwards each notification to `sender`. Also sends one announcement at the start,
/// because earlier notifications may have been missed. Returns an error once the connection is lost.
async fn listen(pool: &PgPool, sender: &Sender, retries: &mut Retries) -> Result<Infallible, sqlx::Error> {
    // Uses a connection outside the store's pool, so that a lost listener occupies no slot in the pool.
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen_all([DELIVERIES_CHANNEL, CHANGES_CHANNEL]).await?;
    retries.reset();
    let mut announcement = Announcement::of_anything();
    loop {
        sender.send(announcement);
        announcement = loop {
            match timeout(LISTEN_KEEPALIVE, listener.try_recv()).await {
                Ok(received) => {
                    // The listener has reconnected if it returns no notification.
                    let received = received?;
                    break received.map_or_else(Announcement::of_anything, |notification| {
                        Announcement::from_notification(&notification, sender.own)
                    });
                }
                // Silence alone does not show whether the connection still works.
                Err(_) => match timeout(ACQUIRE_TIMEOUT, listener.execute("SELECT 1")).await {
                    Ok(response) => response.map(drop)?,
                    Err(_) => return Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
                },
            }
        };
    }
}

impl Read {
    /// Notifies all processes that listen for announcements. `from` is the tag of this process.
    pub(crate) async fn announce(
        &mut self,
        announcement: &Announcement,
        from: ProcessTag,
    ) -> Result<(), Error> {
        let changes = announcement.changes.payloads(from).into_iter();
        let changes = changes.map(|payload| (CHANGES_CHANNEL, payload));
        let deliveries = announcement.has_deliveries.then(|| (DELIVERIES_CHANNEL, String::new()));
        for (channel, payload) in changes.chain(deliveries) {
            self.execute("SELECT pg_notify($1, $2)", bind![channel, payload]).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ProcessTag = ProcessTag(1);
    const OTHER: ProcessTag = ProcessTag(0xdead_beef);

    fn topics(count: u8) -> HashSet<Topic> {
        let topics = (0..count).flat_map(|number| {
            let bytes = [number; 16];
            let (challenge, factor) = (ChallengeSid::from_bytes(bytes), FactorSid::from_bytes(bytes));
            let account = AccountSid::from_bytes(bytes);
            [Topic::Challenge(challenge), Topic::Factor(factor), Topic::Account(account)]
        });
        topics.collect()
    }

    #[test]
    fn changes_are_announced_in_payloads_that_postgresql_accepts() {
        let all = topics(200);
        let payloads = Changes::Of(all.clone()).payloads(ONE);
        assert_eq!(payloads.len(), 3);
        assert!(payloads.iter().all(|payload| payload.len() < 8000));
        let mut received = Changes::default();
        for payload in &payloads {
            received.add(Changes::from_payload(payload, OTHER));
        }
        assert_eq!(received, Changes::Of(all));
        assert!(payloads.iter().all(|payload| Changes::from_payload(payload, ONE).is_empty()));
        assert!(Changes::default().payloads(ONE).is_empty());
    }

    #[test]
    fn payload_that_is_not_understood_is_about_any_resource() {
        for payload in ["", "0000", "00000001", "00000001?", "0000000é", "00000001YC", "00000001YCé"] {
            assert_eq!(Changes::from_payload(payload, OTHER), Changes::OfAny, "{payload}");
        }
        assert_eq!(Changes::from_payload(&Changes::OfAny.payloads(ONE)[0], OTHER), Changes::OfAny);
    }
}
