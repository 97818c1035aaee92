//! How far a chain is, by what its endpoints say.
//!
//! An endpoint that lags would answer from the past, so it is passed over. One that says too much, by a fault or out of
//! malice, must not make all others look as if they lagged: its word counts when another endpoint says nearly the same,
//! or when it has grown as a chain does. Endpoints that stand still agree with each other for ever, so they bear each
//! other no witness.

use std::time::Duration;

use tokio::time::Instant;

use super::endpoint::Fault;

/// Blocks that an endpoint may be behind the others.
const LAG_BLOCKS: u64 = 8;
/// Blocks that a chain may make in a second; the fastest known ones make ten.
const BLOCKS_A_SECOND: u64 = 20;
/// How long what was said counts: a local chain may begin again.
const COUNTS_FOR: Duration = Duration::from_secs(30);

/// How long an endpoint whose word has grown counts as one that goes with its chain. Shorter than the time of a block on
/// some chains: there two agree soon after each block, which is enough.
const MOVES_FOR: Duration = Duration::from_secs(10);

/// What an endpoint said, and when.
#[derive(Debug, Clone, Copy)]
struct Word {
    number: u64,
    at: Instant,
    /// When it was first heard to say more than before.
    grown_at: Option<Instant>,
}

impl Word {
    fn counts(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < COUNTS_FOR
    }

    fn moves(&self, now: Instant) -> bool {
        self.grown_at.is_some_and(|grown_at| now.saturating_duration_since(grown_at) < MOVES_FOR)
    }

    fn is_near(&self, number: u64) -> bool {
        self.number.abs_diff(number) <= LAG_BLOCKS
    }
}

/// The newest block, as far as is known.
#[derive(Debug)]
pub(super) struct Tip {
    words: Vec<Option<Word>>,
    /// The newest, whose it is, and whether there is more behind it than one word of one endpoint.
    newest: Option<(Word, usize, bool)>,
}

impl Tip {
    pub(super) fn of(endpoints: usize) -> Self {
        Self { words: vec![None; endpoints], newest: None }
    }

    /// Whether the endpoint at `place`, which says `number`, may be read.
    pub(super) fn judge(&mut self, place: usize, number: u64, now: Instant) -> Result<(), Fault> {
        let before = self.words[place];
        let moved = before.is_some_and(|before| number > before.number);
        let grown_at = if moved { Some(now) } else { before.and_then(|before| before.grown_at) };
        let said = Word { number, at: now, grown_at };
        self.words[place] = Some(said);
        let is_agreed = said.moves(now) && self.others_near(place, number, now).any(|word| word.moves(now));
        let Some((newest, by, is_proved)) = self.newest.filter(|(newest, ..)| newest.counts(now)) else {
            self.newest = Some((said, place, is_agreed));
            return Ok(());
        };
        if number > newest.number {
            let has_grown = number - newest.number <= possible_growth(newest, now);
            // One that is alone can mislead nobody else.
            if !has_grown && !is_agreed && self.words.len() > 1 {
                return Err(Fault::FarAhead);
            }
            self.newest = Some((said, place, is_proved || is_agreed || (has_grown && by == place)));
            return Ok(());
        }
        if newest.is_near(number) {
            self.newest = Some((newest, by, is_proved || by != place));
            return Ok(());
        }
        // Two that move against one word, unless that one has company as well.
        if is_agreed && self.others_near(by, newest.number, now).next().is_none() {
            self.newest = Some((said, place, true));
            return Ok(());
        }
        // Who is behind its own earlier word has fallen back.
        if is_proved || by == place { Err(Fault::Lagging) } else { Ok(()) }
    }

    /// What others say that is nearly the same.
    fn others_near(&self, place: usize, number: u64, now: Instant) -> impl Iterator<Item = Word> {
        let others = self.words.iter().enumerate().filter(move |(other, _)| *other != place).filter_map(|(_, word)| *word);
        others.filter(move |word| word.counts(now) && word.is_near(number))
    }
}

fn possible_growth(since: Word, now: Instant) -> u64 {
    let elapsed = now.saturating_duration_since(since.at).as_secs();
    LAG_BLOCKS + BLOCKS_A_SECOND * elapsed
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: u64 = 1 << 60;

    fn say(tip: &mut Tip, at: Instant, words: &[(usize, u64)]) -> Vec<Result<(), Fault>> {
        words.iter().map(|(place, number)| tip.judge(*place, *number, at)).collect()
    }

    #[test]
    fn one_that_lags_is_passed_over_until_it_has_caught_up() {
        let (mut tip, start) = (Tip::of(2), Instant::now());
        assert_eq!(say(&mut tip, start, &[(0, 1000), (1, 1001), (0, 1009)]), [Ok(()); 3]);
        assert_eq!(say(&mut tip, start, &[(1, 1001)]), [Ok(())]);
        let later = start + Duration::from_secs(2);
        assert_eq!(say(&mut tip, later, &[(0, 1020), (1, 1001), (1, 1012)]), [Ok(()), Err(Fault::Lagging), Ok(())]);
    }

    #[test]
    fn a_chain_that_begins_again_is_believed_after_a_while() {
        let (mut tip, start) = (Tip::of(1), Instant::now());
        assert_eq!(say(&mut tip, start, &[(0, 1000), (0, 3)]), [Ok(()), Err(Fault::Lagging)]);
        assert_eq!(say(&mut tip, start + COUNTS_FOR, &[(0, 3)]), [Ok(())]);
    }

    #[test]
    fn one_that_leaps_ahead_is_passed_over_and_the_others_are_not() {
        let (mut tip, start) = (Tip::of(2), Instant::now());
        assert_eq!(say(&mut tip, start, &[(0, 1000), (1, 1000), (1, FAR), (0, 1001)])[2..], [Err(Fault::FarAhead), Ok(())]);
        assert_eq!(say(&mut tip, start, &[(1, FAR + 1), (0, 1001)]), [Err(Fault::FarAhead), Ok(())]);
    }

    #[test]
    fn a_liar_that_is_asked_first_makes_nobody_lag() {
        for endpoints in [2, 3] {
            let (mut tip, start) = (Tip::of(endpoints), Instant::now());
            assert_eq!(say(&mut tip, start, &[(0, FAR), (1, 1000)]), [Ok(()); 2]);
            let later = start + Duration::from_secs(1);
            assert_eq!(say(&mut tip, later, &[(1, 1001), (endpoints - 1, 1002)]), [Ok(()); 2]);
        }
        // Two others that move outvote even one that counts on.
        let (mut tip, start) = (Tip::of(3), Instant::now());
        assert_eq!(say(&mut tip, start, &[(0, FAR), (0, FAR + 1), (1, 1000)]), [Ok(()), Ok(()), Err(Fault::Lagging)]);
        assert_eq!(say(&mut tip, start, &[(2, 1000), (1, 1001)]), [Err(Fault::Lagging); 2]);
        assert_eq!(say(&mut tip, start, &[(2, 1001), (1, 1001)]), [Ok(()); 2]);
        assert_eq!(say(&mut tip, start, &[(0, FAR + 2), (1, 1002)]), [Err(Fault::FarAhead), Ok(())]);
    }

    #[test]
    fn two_that_stand_still_do_not_outvote_one_that_moves() {
        let (mut tip, start) = (Tip::of(3), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        // All go with their chain, until two of them come no further.
        assert_eq!(say(&mut tip, start, &[(0, 990), (1, 990), (2, 990)]), [Ok(()); 3]);
        assert_eq!(say(&mut tip, after(1), &[(0, 1000), (1, 1000), (2, 1000)]), [Ok(()); 3]);
        for seconds in 11..100 {
            let words = [(1, 1000), (2, 1000), (0, 1000 + 4 * seconds), (1, 1000), (2, 1000)];
            let found = say(&mut tip, after(seconds), &words);
            // Until the first one is heard again, nobody knows of newer blocks.
            let early = if seconds == 11 { Ok(()) } else { Err(Fault::Lagging) };
            assert_eq!(found, [early, early, Ok(()), Err(Fault::Lagging), Err(Fault::Lagging)], "{seconds}");
        }
        // They go on, and are heard again as soon as they have caught up.
        assert_eq!(say(&mut tip, after(100), &[(1, 1390), (2, 1396)]), [Ok(()); 2]);
    }

    #[test]
    fn two_that_were_never_seen_to_move_do_not_outvote_either() {
        let (mut tip, start) = (Tip::of(3), Instant::now());
        let later = start + Duration::from_secs(1);
        assert_eq!(say(&mut tip, start, &[(0, 1050)]), [Ok(())]);
        let found = say(&mut tip, later, &[(0, 1051), (1, 1000), (2, 1000), (1, 1000), (0, 1052)]);
        assert_eq!(found, [Ok(()), Err(Fault::Lagging), Err(Fault::Lagging), Err(Fault::Lagging), Ok(())]);
    }

    #[test]
    fn a_leap_that_two_see_and_one_of_the_only_endpoint_are_believed() {
        let (mut tip, start) = (Tip::of(2), Instant::now());
        assert_eq!(say(&mut tip, start, &[(0, 10), (1, 10)]), [Ok(()); 2]);
        assert_eq!(say(&mut tip, start, &[(0, 5000), (1, 5000), (0, 5000)]), [Err(Fault::FarAhead), Ok(()), Ok(())]);
        let mut alone = Tip::of(1);
        assert_eq!(say(&mut alone, start, &[(0, 10), (0, 5000)]), [Ok(()); 2]);
    }

    #[test]
    fn no_number_is_too_large_to_be_judged() {
        let (mut tip, start) = (Tip::of(2), Instant::now());
        assert_eq!(
            say(&mut tip, start, &[(0, u64::MAX), (1, u64::MAX), (0, u64::MAX), (1, 0)]).last(),
            Some(&Err(Fault::Lagging))
        );
    }
}
