//! Waiting for a state, with a bound.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

/// How long to rest between two looks at a state.
const REST: Duration = Duration::from_millis(50);

/// Waits until `look` gives a value, and fails when `bound` is over.
///
/// `look` says "not yet" with `Ok(None)`; an error ends the wait at once.
///
/// # Errors
/// When `bound` is over, or with the first error of `look`.
pub async fn eventually<T, F, Fut>(what: &str, bound: Duration, look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    eventually_every(REST, what, bound, look).await
}

/// Like [`eventually`], with a rest of one's own between two looks.
///
/// # Errors
/// When `bound` is over, or with the first error of `look`.
pub async fn eventually_every<T, F, Fut>(rest: Duration, what: &str, bound: Duration, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let end = Instant::now() + bound;
    loop {
        if let Some(value) = look().await? {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("{what}: not so after {} s", bound.as_secs());
        }
        tokio::time::sleep(rest).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_state_that_comes_about_ends_the_wait() {
        let looks = Cell::new(0);
        let value = eventually("three looks", Duration::from_secs(5), || {
            looks.set(looks.get() + 1);
            let seen = looks.get();
            async move { Ok((seen == 3).then_some(seen)) }
        });
        assert_eq!(value.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_state_that_never_comes_about_fails_with_its_name() {
        let failed = eventually("the moon is green", Duration::ZERO, || async { Ok(None::<()>) }).await.unwrap_err();
        assert!(failed.to_string().starts_with("the moon is green"), "{failed}");
    }
}
