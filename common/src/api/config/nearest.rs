//! "did you mean": the known name that is nearest to one that is not known.

/// Most changes by which a name may differ from the one that was meant, as a part of its length.
const TOLERANCE: usize = 3;

/// `, did you mean ...?` for the name of `known` that is nearest to `written`; else the known names,
/// where they are few; else nothing.
pub(super) fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let distance = |name: &str| strsim::damerau_levenshtein(&plain(written), &plain(name));
    match known.iter().min_by_key(|name| distance(name)) {
        Some(name) if distance(name) <= (name.len() / TOLERANCE).max(1) => {
            format!(", did you mean `{name}`?")
        }
        Some(_) if known.len() <= 12 => format!(": it is one of {}", known.join(", ")),
        _ => String::new(),
    }
}

/// Names differ by more than their case and their underscores.
fn plain(name: &str) -> String {
    name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_told_and_a_strange_one_lists_the_known() {
        let known = ["grpc_service", "timeout"];
        assert_eq!(nearest("grpc_servce", known.into_iter()), ", did you mean `grpc_service`?");
        assert_eq!(nearest("GrpcServices", known.into_iter()), ", did you mean `grpc_service`?");
        assert_eq!(nearest("x", known.into_iter()), ": it is one of grpc_service, timeout");
        assert_eq!(nearest("x", ["abcdefgh"; 13].into_iter()), "");
        assert_eq!(nearest("x", std::iter::empty()), "");
    }
}
