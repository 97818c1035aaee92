//! Another poster of a title: which frame it shows, and how it takes the place of the one before.

use streamgate_core::{Caller, Failure, ids::ContentId};
use streamgate_media::presentation::{Rendition, renditions};
use streamgate_proto::streamgate::media::v1::{Asset, Presentation, Track};

use super::Engine;
use crate::Error;

/// Frames of lower rungs make no poster where there is a higher one.
const LEAST_HEIGHT: u32 = 360;

/// The poster of a title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poster {
    /// Which making of the title has it.
    pub version: u32,
    /// Time of its frame.
    pub at_ms: u64,
    /// Its size.
    pub size_bytes: u64,
}

/// A frame that shall be the poster, and what it is made from. Paths lie below the title's media.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The title.
    pub content_id: String,
    /// The job that made the version that is played.
    pub job_id: String,
    /// That version.
    pub version: u32,
    /// Time of the frame in the title.
    pub at_ms: u64,
    /// The init segment, and the segment that shows the frame.
    pub files: [Asset; 2],
    /// Time of the frame after the first one of its segment.
    pub offset_ms: u64,
    /// The poster that there is.
    pub before: Option<Asset>,
}

impl Frame {
    /// The poster that there is, if it shows this frame.
    #[must_use]
    pub fn poster(&self) -> Option<Poster> {
        let before = self.before.as_ref().filter(|before| before.path.starts_with(&self.stem()))?;
        Some(Poster { version: self.version, at_ms: self.at_ms, size_bytes: before.size_bytes })
    }

    /// A path that no poster ever had: whoever deletes one deletes nobody else's.
    #[must_use]
    pub fn new_path(&self) -> String {
        format!("{}{}.jpg", self.stem(), uuid::Uuid::new_v4().simple())
    }

    fn stem(&self) -> String {
        format!("{}/poster-{}-", self.job_id, self.at_ms)
    }
}

impl Engine {
    /// The frame that a title of the caller shows at a time.
    ///
    /// # Errors
    /// `UnknownContent`, `NoPicture`, `NotThereYet`, or a field that is wrong.
    pub async fn frame(&self, caller: &Caller, content: &ContentId, at_ms: u64) -> Result<Frame, Error> {
        // Whoever may not know of the title learns nothing more of it.
        self.newest_job(caller, content).await?;
        let made = self.presentation(content, None, 0).await?;
        frame_of(&made.ok_or_else(|| Error::UnknownContent(content.to_string()))?, at_ms)
    }

    /// Puts a stored picture in the place of the poster that the frame was found with.
    ///
    /// # Errors
    /// `Outdated` when that is no longer the poster, or the version no longer the one to be played.
    pub async fn replace_poster(&self, frame: &Frame, path: &str, size_bytes: u64) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let done = sqlx::query(
            "UPDATE jobs SET poster_path = $1, poster_bytes = $2, revision = revision + 1 WHERE job_id = $3 AND poster_path = $4 \
             AND superseded_ms = 0 AND purged = 0 AND NOT EXISTS (SELECT 1 FROM deleted_contents WHERE content_id = $5)",
        )
        .bind(path)
        .bind(i64::try_from(size_bytes).unwrap_or(i64::MAX))
        .bind(&frame.job_id)
        .bind(frame.before.as_ref().map_or("", |before| before.path.as_str()))
        .bind(&frame.content_id)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(Error::Outdated(frame.content_id.clone())) }
    }
}

fn frame_of(made: &Presentation, at_ms: u64) -> Result<Frame, Error> {
    let title = || made.content_id.clone();
    let is_all = made.complete || made.stopped;
    let Some(track) = track_of(made) else {
        return Err(if is_all { Error::NoPicture(title()) } else { Error::NotThereYet(title()) });
    };
    let most_ms = match made.source_duration_ms {
        _ if is_all => renditions(made).filter_map(Rendition::track).map(end_ms).max().unwrap_or(0),
        0 => u64::MAX,
        claimed_ms => claimed_ms,
    };
    if at_ms > most_ms {
        let words = format!("must be at most {most_ms}, the length of the title in milliseconds");
        return Err(Failure::invalid_field("at_ms", words).into());
    }
    if !is_all && at_ms >= end_ms(track) {
        return Err(Error::NotThereYet(title()));
    }
    let timescale = u64::from(track.timescale.max(1));
    let ticks = at_ms.saturating_mul(timescale) / 1000;
    let behind = track.segments.partition_point(|segment| segment.start <= ticks);
    // Sound may last longer than the picture: then the last frame stays.
    let segment = track.segments.get(behind.saturating_sub(1)).ok_or_else(|| Error::NotThereYet(title()))?;
    let init = track.init.clone().ok_or_else(|| Error::NotThereYet(title()))?;
    let begin_ms = segment.start.saturating_mul(1000).div_ceil(timescale);
    Ok(Frame {
        content_id: title(),
        job_id: made.job_id.clone(),
        version: made.version,
        at_ms,
        files: [init, Asset { path: segment.path.clone(), size_bytes: segment.size_bytes }],
        offset_ms: at_ms.saturating_sub(begin_ms),
        before: made.poster.clone(),
    })
}

/// The lowest rung that is high enough, or the highest.
fn track_of(made: &Presentation) -> Option<&Track> {
    let enough = made.video.iter().filter(|rung| rung.height >= LEAST_HEIGHT).min_by_key(|rung| rung.height);
    enough.or_else(|| made.video.iter().max_by_key(|rung| rung.height))?.track.as_ref()
}

fn end_ms(track: &Track) -> u64 {
    let end = track.segments.last().map_or(0, |last| last.start.saturating_add(last.duration));
    end.saturating_mul(1000) / u64::from(track.timescale.max(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use streamgate_proto::streamgate::media::v1::{AudioRendition, Segment, VideoRendition};

    use super::*;

    /// A track of two-second segments.
    fn track(name: &str, timescale: u32, segments: u32) -> Track {
        let length = 2 * u64::from(timescale);
        let segments = (1..=segments).map(|number| Segment {
            number,
            start: u64::from(number - 1) * length,
            duration: length,
            size_bytes: 10,
            path: format!("job_1/{name}/{number:05}.m4s"),
        });
        let init = Asset { path: format!("job_1/{name}/init.mp4"), size_bytes: 5 };
        Track { timescale, init: Some(init), segments: segments.collect() }
    }

    fn rung(height: u32, segments: u32) -> VideoRendition {
        let track = track(&format!("v{height}"), 30_000, segments);
        VideoRendition { height, track: Some(track), ..Default::default() }
    }

    /// A whole title of four seconds, its sound two seconds longer.
    fn title(heights: &[u32]) -> Presentation {
        let audio = AudioRendition { track: Some(track("a128", 48_000, 3)), ..Default::default() };
        Presentation {
            job_id: "job_1".to_owned(),
            version: 1,
            complete: true,
            source_duration_ms: 9_000,
            video: heights.iter().map(|height| rung(*height, 2)).collect(),
            audio: Some(audio),
            ..Default::default()
        }
    }

    fn segment_of(made: &Presentation, at_ms: u64) -> (String, u64) {
        let frame = frame_of(made, at_ms).unwrap();
        (frame.files[1].path.clone(), frame.offset_ms)
    }

    #[test]
    fn the_lowest_rung_that_is_high_enough_is_taken_and_the_segment_of_the_time() {
        let table: [(&[u32], u64, &str, u64); 5] = [
            (&[720, 480, 360, 240], 0, "job_1/v360/00001.m4s", 0),
            (&[720, 240], 1_999, "job_1/v720/00001.m4s", 1_999),
            (&[240, 144], 2_000, "job_1/v240/00002.m4s", 0),
            (&[360], 3_500, "job_1/v360/00002.m4s", 1_500),
            (&[360], 6_000, "job_1/v360/00002.m4s", 4_000),
        ];
        for (heights, at_ms, path, offset_ms) in table {
            assert_eq!(segment_of(&title(heights), at_ms), (path.to_owned(), offset_ms), "{heights:?} at {at_ms}");
        }
    }

    #[test]
    fn a_time_beyond_the_end_is_wrong_and_one_that_is_not_made_yet_is_not() {
        let whole = title(&[360]);
        assert!(matches!(frame_of(&whole, 6_001), Err(Error::Refused(refused)) if refused.fields[0].field == "at_ms"));
        let growing = Presentation { complete: false, ..whole };
        assert!(frame_of(&growing, 3_999).is_ok());
        assert!(matches!(frame_of(&growing, 4_000), Err(Error::NotThereYet(_))));
        assert!(matches!(frame_of(&growing, 9_001), Err(Error::Refused(_))));
        let unknown = Presentation { source_duration_ms: 0, ..growing };
        assert!(matches!(frame_of(&unknown, u64::MAX), Err(Error::NotThereYet(_))));
        let stopped = Presentation { stopped: true, ..unknown };
        assert!(matches!(frame_of(&stopped, u64::MAX), Err(Error::Refused(_))));
    }

    #[test]
    fn sound_alone_has_no_frame() {
        let sound = title(&[]);
        assert!(matches!(frame_of(&sound, 0), Err(Error::NoPicture(_))));
        let growing = Presentation { complete: false, ..sound };
        assert!(matches!(frame_of(&growing, 0), Err(Error::NotThereYet(_))));
    }

    #[test]
    fn a_poster_is_known_by_its_frame_and_has_a_path_of_its_own() {
        let at = |made: &Presentation, at_ms| frame_of(made, at_ms).unwrap();
        let mut made = title(&[360]);
        let path = at(&made, 1_500).new_path();
        assert_ne!(path, at(&made, 1_500).new_path());
        made.poster = Some(Asset { path, size_bytes: 7 });
        assert_eq!(at(&made, 1_500).poster(), Some(Poster { version: 1, at_ms: 1_500, size_bytes: 7 }));
        for other in [150, 1_501] {
            assert_eq!(at(&made, other).poster(), None, "{other}");
        }
    }
}
