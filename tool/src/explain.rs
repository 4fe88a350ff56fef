//! The words of the access log and of the statistics: what each means, and what to do.

mod words;

pub(crate) use words::ENTRIES;

/// One word.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) word: &'static str,
    /// "cause", "verdict", "source", "counter", "gauge" or "histogram", and of which filters.
    pub(crate) kind: &'static str,
    pub(crate) meaning: &'static str,
    /// Empty where nothing is wrong.
    pub(crate) remedy: &'static str,
}

/// The entries for a word, or for a statistic by its full name.
pub(crate) fn find(word: &str) -> Vec<&'static Entry> {
    let wanted = word.trim().to_ascii_lowercase();
    let exact: Vec<&Entry> = ENTRIES.iter().filter(|entry| entry.word == wanted).collect();
    if !exact.is_empty() {
        return exact;
    }
    // `dynamicmodulescustom.authz.edge.call_failed.cause.timeout`, `envoy_..._call_failed`.
    let parts: Vec<&str> = wanted.split('.').collect();
    let of_cause = parts.iter().position(|part| *part == "cause");
    let last = match of_cause {
        Some(at) => parts.get(at + 1).copied(),
        None => parts.last().copied(),
    };
    let last = last.unwrap_or_default();
    let ends = |entry: &&Entry| {
        entry.word == last
            || last.starts_with("envoy_") && last.ends_with(&format!("_{}", entry.word))
    };
    ENTRIES.iter().filter(ends).collect()
}

/// `, did you mean ...?`, for the word nearest to one that is not known.
pub(crate) fn nearest(word: &str) -> String {
    let distance = |entry: &&Entry| strsim::damerau_levenshtein(entry.word, word);
    match ENTRIES.iter().min_by_key(distance) {
        Some(entry) if distance(&entry) <= 3 => format!(", did you mean `{}`?", entry.word),
        _ => ": `callout explain` lists the words".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_by_its_name_and_by_the_name_of_its_statistic() {
        let first = |word: &str| find(word).first().map(|entry| entry.word);
        assert_eq!(first("timeout"), Some("timeout"));
        assert_eq!(first("dynamicmodulescustom.authz.edge.cache_hit"), Some("cache_hit"));
        assert_eq!(first("dynamicmodulescustom.authz.call_failed.cause.timeout"), Some("timeout"));
        assert_eq!(first("envoy_dynamicmodulescustom_authz_ok"), Some("ok"));
        assert!(find("nonsense").is_empty());
        assert_eq!(nearest("timeuot"), ", did you mean `timeout`?");
    }

    /// The words in the first column of a README's tables of statistics, and its causes.
    fn documented(readme: &str) -> Vec<String> {
        let statistics = readme.split("\n## Statistics").nth(1).unwrap_or_default();
        let statistics = statistics.split("\n## ").next().unwrap_or_default();
        let rows = statistics.lines().filter(|line| line.starts_with("| `"));
        let mut words = Vec::new();
        for row in rows {
            let mut cells = row.split('|').skip(1);
            let names = cells.next().unwrap_or_default();
            words.extend(names.split('`').skip(1).step_by(2).map(str::to_owned));
            let text = cells.next().unwrap_or_default();
            if let Some((_, causes)) = text.split_once("by `cause`:") {
                words.extend(causes.split('`').skip(1).step_by(2).map(str::to_owned));
            }
        }
        words
    }

    #[test]
    fn every_statistic_and_cause_of_the_filters_is_explained() {
        for (filter, readme) in [
            ("authz", include_str!("../../authz/README.md")),
            ("ratelimit", include_str!("../../ratelimit/README.md")),
            ("extproc", include_str!("../../extproc/README.md")),
        ] {
            let words = documented(readme);
            assert!(words.len() > 20, "{filter}: {words:?}");
            for word in words {
                assert!(!find(&word).is_empty(), "{filter}: {word} is not explained");
            }
        }
    }

    #[test]
    fn what_points_to_a_fault_says_what_to_do() {
        for entry in ENTRIES {
            assert!(entry.meaning.ends_with('.'), "{}", entry.word);
            if entry.kind.starts_with("cause") {
                assert!(!entry.remedy.is_empty(), "{}", entry.word);
            }
        }
    }
}
