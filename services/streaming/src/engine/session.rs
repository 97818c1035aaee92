//! One playback session, as it stands in memory.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

use streamgate_core::time::UnixMillis;

use crate::{Error, Result};

/// Reason of a session whose viewer no longer meets the gate.
pub const GATE_NOT_MET: &str = "gate_not_met";
/// Reason of a session whose title lost its gate.
pub const GATE_MISSING: &str = "gate_missing";
/// Reason of a session of an account that was an operator's and no longer is, or whose API key was revoked.
pub const ROLE_LOST: &str = "role_lost";
/// Reason of a session whose title or playback id was deleted.
pub const TITLE_DELETED: &str = "title_deleted";
/// Reason of a session that somebody ended: its viewer, the title's owner or an operator.
pub const ENDED_BY_CALLER: &str = "ended_by_caller";
/// Reason of a session that made room for a newer one of its account.
pub const REPLACED: &str = "replaced";

/// Where a session is in its life. Its end in time is not a state: it follows from the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Plays.
    Active,
    /// Ended by its viewer, or with its title.
    Ended,
    /// The gate no longer held.
    Revoked,
}

impl State {
    /// As it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Ended => "ended",
            Self::Revoked => "revoked",
        }
    }

    /// From the stored word. Whatever is unknown does not play.
    #[must_use]
    pub fn of_word(word: &str) -> Self {
        match word {
            "active" => Self::Active,
            "revoked" => Self::Revoked,
            _ => Self::Ended,
        }
    }
}

/// What changes in the life of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where it is.
    pub state: State,
    /// Why it ended; empty while active.
    pub reason: String,
    /// Requirements that were not met.
    pub unmet: Vec<String>,
    /// Gate that last granted.
    pub gate_hash: String,
    /// When it last granted.
    pub checked_ms: UnixMillis,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// What it plays.
    pub playback_id: String,
    /// The title behind it.
    pub content_id: String,
    /// Account that owns the title; empty for sessions of old.
    pub owner: String,
    /// Account that plays; absent when nobody signed in.
    pub account_id: Option<String>,
    /// CAIP-10 wallet that the gate is checked for.
    pub wallet: Option<String>,
    /// Opened by the owner or an operator: plays whatever the gate says.
    pub privileged: bool,
    /// Gate at the opening.
    pub opened_gate: String,
    /// When it was opened.
    pub created_ms: UnixMillis,
    /// When it ends at the latest.
    pub expires_ms: UnixMillis,
    /// How it stands.
    pub standing: Standing,
}

/// How a session is used, as far as it is written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// When it was last asked for something.
    pub used_ms: UnixMillis,
    /// Whether its viewer was told to have started, and not to have stopped.
    pub playing: bool,
    /// When earlier checks last stopped counting.
    pub doubted_ms: UnixMillis,
}

/// The one copy of a session in this process.
#[derive(Debug)]
pub struct Live {
    opened: Session,
    standing: RwLock<Standing>,
    used_ms: AtomicI64,
    /// Bytes of media given out that are not written down yet.
    sent_bytes: AtomicU64,
    playing: AtomicBool,
    dirty: AtomicBool,
    /// When a check last ended without an answer.
    unknown_ms: AtomicI64,
    /// Grows whenever earlier checks stop counting, such as when the gate changes.
    doubts: AtomicU64,
    /// Value of `doubts` that the last positive check began with.
    settled: AtomicU64,
    /// Time of the newest doubt that this copy knows of.
    doubted_ms: AtomicI64,
    /// Held while the gate is being checked, so that it is checked once.
    pub checking: Arc<tokio::sync::Mutex<()>>,
}

impl Live {
    /// Takes a session into memory.
    #[must_use]
    pub fn new(session: Session, marks: Marks) -> Self {
        Self {
            standing: RwLock::new(session.standing.clone()),
            opened: session,
            used_ms: AtomicI64::new(marks.used_ms),
            sent_bytes: AtomicU64::new(0),
            playing: AtomicBool::new(marks.playing),
            dirty: AtomicBool::new(false),
            unknown_ms: AtomicI64::new(0),
            doubts: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            doubted_ms: AtomicI64::new(marks.doubted_ms),
            checking: Arc::default(),
        }
    }

    /// What never changes; its `standing` is the one it was loaded with.
    #[must_use]
    pub const fn opened(&self) -> &Session {
        &self.opened
    }

    /// How it stands now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The session as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Session {
        Session { standing: self.standing(), ..self.opened.clone() }
    }

    /// Notes a request.
    pub fn touch(&self, now: UnixMillis) {
        self.used_ms.store(now, Ordering::Relaxed);
        self.dirty.store(true, Ordering::Relaxed);
    }

    /// Notes media given out.
    pub fn add_sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes to be written down; asking counts as writing.
    #[must_use]
    pub fn take_sent(&self) -> u64 {
        self.sent_bytes.swap(0, Ordering::Relaxed)
    }

    /// Whether its viewer is known to have started.
    #[must_use]
    pub fn is_playing(&self) -> bool {
        self.playing.load(Ordering::Relaxed)
    }

    /// Its viewer has started or stopped.
    pub fn set_playing(&self, playing: bool) {
        self.playing.store(playing, Ordering::Relaxed);
    }

    /// Time of the newest doubt that is known here.
    #[must_use]
    pub fn doubted_ms(&self) -> UnixMillis {
        self.doubted_ms.load(Ordering::Acquire)
    }

    /// When it was last asked for something.
    #[must_use]
    pub fn used_ms(&self) -> UnixMillis {
        self.used_ms.load(Ordering::Relaxed)
    }

    /// Whether something is to be written; asking counts as writing.
    #[must_use]
    pub fn take_dirty(&self) -> bool {
        self.dirty.swap(false, Ordering::Relaxed)
    }

    /// Whether it plays at `now`, without a look at the gate.
    #[must_use]
    pub fn is_active(&self, now: UnixMillis) -> bool {
        self.standing.read().unwrap_or_else(PoisonError::into_inner).state == State::Active && now < self.opened.expires_ms
    }

    /// Refuses when it has ended.
    ///
    /// # Errors
    /// Why it ended.
    pub fn refuse_if_over(&self, now: UnixMillis) -> Result<()> {
        if self.is_active(now) {
            return Ok(());
        }
        let standing = self.standing();
        Err(match standing.state {
            State::Active => Error::TokenExpired,
            _ if standing.reason == GATE_NOT_MET => Error::GateNotMet { unmet: standing.unmet },
            _ if standing.reason == GATE_MISSING => Error::GateMissing,
            _ => Error::SessionEnded { reason: standing.reason },
        })
    }

    /// Whether the last positive check still counts and is at most `age_ms` old.
    #[must_use]
    pub fn granted_within(&self, now: UnixMillis, age_ms: i64) -> bool {
        if self.settled.load(Ordering::Acquire) != self.doubts.load(Ordering::Acquire) {
            return false;
        }
        let checked_ms = self.standing.read().unwrap_or_else(PoisonError::into_inner).checked_ms;
        now - checked_ms <= age_ms
    }

    /// Whether a check without an answer ended less than `pause_ms` ago.
    #[must_use]
    pub fn unknown_within(&self, now: UnixMillis, pause_ms: i64) -> bool {
        now - self.unknown_ms.load(Ordering::Relaxed) < pause_ms
    }

    /// Earlier checks no longer count, nor after a restart: the time of the last one is forgotten.
    /// A doubt that is known already changes nothing.
    pub fn doubt(&self, at: UnixMillis) {
        if self.doubted_ms.fetch_max(at, Ordering::AcqRel) >= at {
            return;
        }
        self.standing.write().unwrap_or_else(PoisonError::into_inner).checked_ms = 0;
        self.doubts.fetch_add(1, Ordering::AcqRel);
        self.unknown_ms.store(0, Ordering::Relaxed);
    }

    /// How often it was doubted: to be read before a check begins and given to [`Live::grant`].
    #[must_use]
    pub fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Acquire)
    }

    /// A check that began after `doubts` doubts granted.
    pub fn grant(&self, now: UnixMillis, gate_hash: &str, doubts: u64) {
        let mut standing = self.standing.write().unwrap_or_else(PoisonError::into_inner);
        standing.checked_ms = now;
        if standing.gate_hash != gate_hash {
            gate_hash.clone_into(&mut standing.gate_hash);
        }
        drop(standing);
        self.settled.store(doubts, Ordering::Release);
        self.dirty.store(true, Ordering::Relaxed);
    }

    /// A check ended without an answer.
    pub fn not_told(&self, now: UnixMillis) {
        self.unknown_ms.store(now, Ordering::Relaxed);
    }

    /// It is over, after that was stored. The first end stays.
    pub fn close(&self, state: State, reason: &str, unmet: Vec<String>) -> bool {
        let mut standing = self.standing.write().unwrap_or_else(PoisonError::into_inner);
        if standing.state != State::Active {
            return false;
        }
        standing.state = state;
        reason.clone_into(&mut standing.reason);
        standing.unmet = unmet;
        true
    }
}
