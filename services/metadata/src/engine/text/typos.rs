//! Words that were mistyped.

/// Shortest word that is corrected: among shorter ones, everything looks alike.
const MIN_CHARS: usize = 4;
/// Words of this length may have two mistakes.
const LONG_CHARS: usize = 8;

/// Mistakes that a word of this length may have.
pub(super) fn allowed(word: &str) -> usize {
    match word.chars().count() {
        0..MIN_CHARS => 0,
        MIN_CHARS..LONG_CHARS => 1,
        _ => 2,
    }
}

/// Whether one word may be the other, mistyped. The longer one counts: letters are left out more easily than added.
pub(super) fn is_alike(typed: &str, word: &str) -> bool {
    is_within(typed, word, allowed(typed).max(allowed(word)))
}

/// Whether one word can be made of the other with at most `most` mistakes: a letter too many, too few,
/// another one, or two changed places.
fn is_within(left: &str, right: &str, most: usize) -> bool {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    if left.len().abs_diff(right.len()) > most {
        return false;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let changed = last[j] + usize::from(a != b);
            let mut least = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[right.len()] <= most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_letter_more_less_other_or_swapped_is_one_mistake() {
        for typo in ["cofee", "cofffee", "coffea", "cofefe", "coffee"] {
            assert!(is_within(typo, "coffee", 1), "{typo}");
        }
        for other in ["cafe", "toffees", "ocfefe", ""] {
            assert!(!is_within(other, "coffee", 1), "{other}");
        }
        assert!(is_within("montains", "mountain", 2) && is_within("été", "ete", 2));
    }

    #[test]
    fn a_long_word_may_have_lost_letters() {
        assert!(is_alike("elefant", "elephant") && is_alike("elephant", "elefant"));
        assert!(!is_alike("cofee", "coffin") && !is_alike("infant", "elefant"));
    }

    #[test]
    fn short_words_have_no_mistakes() {
        assert_eq!(["cat", "lion", "elephant"].map(allowed), [0, 1, 2]);
    }
}
