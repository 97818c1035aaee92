//! Words as they are searched: without case and accents, the same on every engine.

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

/// Characters of a word that count; nobody types more.
const MAX_WORD_CHARS: usize = 48;

/// The words of a text, in order. Letters and digits make words; a character of a script without
/// spaces is a word of its own.
pub fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut length = 0;
    // Accents are dropped after taking letters apart, case after that: `İ` is an `i` with a dot in the end.
    let letters = text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase).nfkd();
    for c in letters.filter(|c| !is_combining_mark(*c)) {
        if stands_alone(c) {
            finish(&mut word, &mut words);
            words.push(c.to_string());
            length = 0;
        } else if c.is_alphanumeric() {
            if length < MAX_WORD_CHARS {
                word.push(c);
            }
            length += 1;
        } else {
            finish(&mut word, &mut words);
            length = 0;
        }
    }
    finish(&mut word, &mut words);
    words
}

fn finish(word: &mut String, words: &mut Vec<String>) {
    if !word.is_empty() {
        words.push(std::mem::take(word));
    }
}

/// Han, Hiragana, Katakana: written without spaces.
const fn stands_alone(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{323af}')
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_and_accents_do_not_count_and_signs_part_words() {
        assert_eq!(words("Café-Tour, ÉTÉ 2026!"), ["cafe", "tour", "ete", "2026"]);
        assert_eq!(words("İstanbul ﬁlm Ⅳ"), ["istanbul", "film", "iv"]);
        assert_eq!(words("東京 tower"), ["東", "京", "tower"]);
        assert_eq!(words("\" * -- \u{301} \0 💥"), Vec::<String>::new());
        assert_eq!(words(&"x".repeat(500))[0].len(), MAX_WORD_CHARS);
    }

    proptest! {
        #[test]
        fn words_hold_nothing_that_an_engine_takes_for_syntax(text in any::<String>()) {
            for word in words(&text) {
                prop_assert!(!word.is_empty() && word.chars().all(char::is_alphanumeric), "{word:?}");
                prop_assert_eq!(words(&word).concat(), word);
            }
        }
    }
}
