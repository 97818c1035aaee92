//! Reads the Prometheus text format, and OpenMetrics as far as both agree.
//!
//! A sample counts only if its whole line is well formed; a line that is not is skipped and
//! counted, so that one odd metric does not hide the others. Everything is bounded.

use std::collections::BTreeMap;

/// Samples of one service at the most: ours have a few hundred.
pub const MAX_SAMPLES: usize = 4_000;
/// Labels of one sample at the most.
const MAX_LABELS: usize = 32;
/// Bytes of one line at the most.
const MAX_LINE_BYTES: usize = 8 * 1024;

/// One sample of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// What a service exposes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exposition {
    /// The samples, in their order.
    pub samples: Vec<Sample>,
    /// Lines that were no samples, or one too many.
    pub skipped: usize,
}

/// Reads a whole text.
#[must_use]
pub fn parse(text: &str) -> Exposition {
    let mut read = Exposition::default();
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match parse_line(line) {
            Some(sample) if read.samples.len() < MAX_SAMPLES => read.samples.push(sample),
            _ => read.skipped += 1,
        }
    }
    read
}

fn parse_line(line: &str) -> Option<Sample> {
    if line.len() > MAX_LINE_BYTES {
        return None;
    }
    let name_end = line.find(|c: char| !is_name_char(c)).unwrap_or(line.len());
    let (name, rest) = line.split_at(name_end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    // A space must part name and value; labels end by themselves.
    if labels.is_empty() && !rest.starts_with([' ', '\t']) && !line.contains('}') {
        return None;
    }
    // An exemplar may follow, and a time stamp.
    let rest = rest.split(" # ").next()?;
    let mut words = rest.split_ascii_whitespace();
    let value = parse_value(words.next()?)?;
    let has_good_time = words.next().is_none_or(|time| time.parse::<f64>().is_ok_and(f64::is_finite));
    (has_good_time && words.next().is_none()).then(|| Sample { name: name.to_owned(), labels, value })
}

/// Reads labels up to the closing brace; gives what follows it.
fn parse_labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_end();
        let is_name = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| is_name_char(c) && c != ':');
        let (value, after) = parse_quoted(after.trim_start())?;
        if !is_name || labels.len() == MAX_LABELS || labels.insert(name.to_owned(), value).is_some() {
            return None;
        }
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) => next,
            None if after.starts_with('}') => after,
            None => return None,
        };
    }
}

/// Reads a quoted value with its escapes; gives what follows it.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((place, c)) = chars.next() {
        match c {
            '"' => return Some((value, &body[place + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                '\\' => '\\',
                '"' => '"',
                _ => return None,
            }),
            _ => value.push(c),
        }
    }
    None
}

fn parse_value(word: &str) -> Option<f64> {
    match word {
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        _ if word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) => word.parse().ok(),
        _ => None,
    }
}

const fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> Sample {
        parse(line).samples.into_iter().next().unwrap()
    }

    fn sample(name: &str, labels: &[(&str, &str)], value: f64) -> Sample {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        Sample { name: name.to_owned(), labels, value }
    }

    #[test]
    fn samples_are_read_with_labels_escapes_times_and_exemplars() {
        assert_eq!(one("up 1"), sample("up", &[], 1.0));
        assert_eq!(one("a_total{} 1e3 1395066363000"), sample("a_total", &[], 1000.0));
        assert_eq!(one(r#"m{a="x\"y\\z\n,}", b="",} -2.5"#), sample("m", &[("a", "x\"y\\z\n,}"), ("b", "")], -2.5));
        assert_eq!(one(r#"h_bucket{le="+Inf"} 7 # {trace_id="ab"} 0.67"#).value, 7.0);
        assert_eq!(one("m +Inf").value, f64::INFINITY);
        assert!(one("m NaN").value.is_nan());
    }

    #[test]
    fn a_line_that_is_no_sample_is_skipped_and_hides_no_other() {
        let bad = [
            "m",
            "m x",
            "m 1 2 3",
            "m{a=\"x\" 1",
            "m{a=x} 1",
            "m{a=\"x\",a=\"y\"} 1",
            "m{9=\"x\"} 1",
            "m{=\"x\"} 1",
            "9m 1",
            "-1",
            "m infinity",
            "m{a=\"\\q\"} 1",
            "m{a=\"x\"b=\"y\"} 1",
            "é 1",
            "m 1 soon",
        ];
        for line in bad {
            assert_eq!(parse(line), Exposition { samples: vec![], skipped: 1 }, "{line}");
        }
        let read = parse(&format!("# HELP up x\n# TYPE up gauge\n{}\n\nup 1\n# EOF\n", bad.join("\n")));
        assert_eq!((read.samples.len(), read.skipped), (1, bad.len()));
    }

    #[test]
    fn too_many_samples_are_cut() {
        let read = parse(&"m 1\n".repeat(MAX_SAMPLES + 5));
        assert_eq!((read.samples.len(), read.skipped), (MAX_SAMPLES, 5));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "\\PC*", noise in "[m{}=\", \\\\n0-9.#]*") {
            let _ = parse(&text);
            let _ = parse(&noise);
        }

        #[test]
        fn what_is_written_is_read_back(name in "[a-z_:][a-z0-9_:]{0,9}", label in "[a-z_][a-z0-9_]{0,9}", words in "\\PC{0,20}", value in -1e9..1e9_f64) {
            let escaped = words.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let read = parse(&format!("{name}{{{label}=\"{escaped}\"}} {value}"));
            let labels = BTreeMap::from([(label, words)]);
            prop_assert_eq!(read.samples, vec![Sample { name, labels, value }]);
        }
    }
}
