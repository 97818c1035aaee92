//! A blob that came in pieces: the list of the objects that hold its bytes, one after another.

use std::ops::Range;

use object_store::path::Path as ObjectPath;
use uuid::Uuid;

use super::bucket::{Bucket, body_of, path};
use crate::{
    error::{Error, Result},
    key::BlobKey,
};

/// What a list begins with, so that a later version can tell an earlier one.
const HEADER: &str = "streamgate pieces 1";
/// Longest list that is read: a million pieces would be a file of eight terabytes.
const MAX_LIST_BYTES: usize = 64 * 1024 * 1024;

/// One object with some of the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its name below the blob's own.
    pub(super) name: String,
    pub(super) size_bytes: u64,
}

impl Piece {
    /// A piece under a name that nobody else has.
    pub(super) fn new(size_bytes: usize) -> Self {
        Self { name: Uuid::new_v4().simple().to_string(), size_bytes: size_bytes as u64 }
    }
}

/// Where a piece of a blob lies.
pub(super) fn piece_path(key: &BlobKey, piece: &Piece) -> Result<ObjectPath> {
    path("pieces", &key.join(&piece.name)?)
}

impl Bucket {
    pub(super) async fn list_at(&self, path: &ObjectPath) -> Result<Option<Pieces>> {
        let Some(result) = self.get(path, None).await? else { return Ok(None) };
        let body = crate::collect(body_of(result), MAX_LIST_BYTES).await?;
        Pieces::decode(&body).map(Some).ok_or_else(|| Error::Corrupt(format!("the list {path} can't be read")))
    }
}

/// All pieces of a blob, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pieces {
    pub(super) list: Vec<Piece>,
    /// Nothing may be added any more.
    pub(super) sealed: bool,
}

impl Pieces {
    pub(super) fn length(&self) -> u64 {
        self.list.iter().map(|piece| piece.size_bytes).sum()
    }

    /// The pieces that hold a range, each with the part of it that is meant.
    pub(super) fn covering(&self, range: &Range<u64>) -> Vec<(Piece, Range<u64>)> {
        let mut at = 0;
        let mut found = Vec::new();
        for piece in &self.list {
            let end = at + piece.size_bytes;
            let (from, to) = (range.start.max(at), range.end.min(end));
            if from < to {
                found.push((piece.clone(), from - at..to - at));
            }
            at = end;
        }
        found
    }

    /// As text: a header, then a line for each piece.
    pub(super) fn encode(&self) -> String {
        let mut text = format!("{HEADER}{}\n", if self.sealed { " sealed" } else { "" });
        for piece in &self.list {
            text.push_str(&format!("{} {}\n", piece.size_bytes, piece.name));
        }
        text
    }

    /// Reads what [`encode`](Self::encode) wrote; absent when it can't be that.
    pub(super) fn decode(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let sealed = match lines.next()?.strip_prefix(HEADER)? {
            "" => false,
            " sealed" => true,
            _ => return None,
        };
        let read = |line: &str| {
            let (size, name) = line.split_once(' ')?;
            Some(Piece { name: name.to_owned(), size_bytes: size.parse().ok()? })
        };
        Some(Self { list: lines.map(read).collect::<Option<_>>()?, sealed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(sizes: &[u64]) -> Pieces {
        let list = sizes.iter().enumerate().map(|(n, size)| Piece { name: format!("p{n}"), size_bytes: *size }).collect();
        Pieces { list, sealed: false }
    }

    #[test]
    fn a_list_reads_back_and_a_cut_one_is_refused() {
        for list in [pieces(&[]), pieces(&[5, 7]), Pieces { sealed: true, ..pieces(&[1]) }] {
            let text = list.encode();
            assert_eq!(Pieces::decode(text.as_bytes()), Some(list));
            for cut in 0..text.len() - 1 {
                let found = Pieces::decode(&text.as_bytes()[..cut]);
                assert!(
                    found.is_none_or(|found| text.starts_with(&found.encode()) && text.as_bytes()[cut - 1] == b'\n'),
                    "{cut}"
                );
            }
        }
    }

    #[test]
    fn a_range_finds_the_pieces_that_hold_it() {
        let list = pieces(&[10, 10, 5]);
        let ranges = |range| list.covering(&range).into_iter().map(|(piece, part)| (piece.name, part)).collect::<Vec<_>>();
        assert_eq!(ranges(0..25), [("p0".into(), 0..10), ("p1".into(), 0..10), ("p2".into(), 0..5)]);
        assert_eq!(ranges(9..11), [("p0".into(), 9..10), ("p1".into(), 0..1)]);
        assert_eq!(ranges(10..10), []);
    }
}
