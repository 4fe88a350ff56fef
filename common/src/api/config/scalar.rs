//! Single values of a configuration in JSON, read as Envoy's own reader does: numbers may be written
//! as text, `8192.0` is a whole number, names of enumerations may be in any case.

use base64::Engine as _;
use base64::alphabet::Alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{EnumDescriptor, Kind, Value};
use serde_json::{Number, Value as Json};

use super::ConfigError;
use super::nearest::nearest;

/// Beyond these a double no longer holds every whole number.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

type Read<T> = Result<T, ConfigError>;

/// The value of a field that is neither a message, a list nor a map.
pub(super) fn scalar(kind: &Kind, json: &Json) -> Read<Value> {
    match kind {
        Kind::Double => double(json).map(Value::F64),
        Kind::Float => float(json).map(Value::F32),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => fitting(json).map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => fitting(json).map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => fitting(json).map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => fitting(json).map(Value::U64),
        Kind::Bool => boolean(json).map(Value::Bool),
        Kind::String => text(json).map(|text| Value::String(text.to_owned())),
        Kind::Bytes => bytes(json).map(|bytes| Value::Bytes(bytes.into())),
        Kind::Enum(names) => enumeration(names, json).map(Value::EnumNumber),
        Kind::Message(_) => Err(unexpected("an object", json)),
    }
}

/// A reason of the form "must be ..., not ...".
pub(super) fn unexpected(wanted: &str, json: &Json) -> ConfigError {
    let found = match json {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => number.to_string(),
        Json::String(text) => format!("`{text}`"),
        Json::Array(_) => "a list".to_owned(),
        Json::Object(_) => "an object".to_owned(),
    };
    ConfigError::without_path(format!("must be {wanted}, not {found}"))
}

fn text(json: &Json) -> Read<&str> {
    json.as_str().ok_or_else(|| unexpected("text", json))
}

/// `true`, `false`, or one of the words for them.
fn boolean(json: &Json) -> Read<bool> {
    let word = match json {
        Json::Bool(value) => return Ok(*value),
        Json::String(text) => text.to_ascii_lowercase(),
        _ => return Err(unexpected("true or false", json)),
    };
    match word.as_str() {
        "true" | "t" | "yes" | "y" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "0" => Ok(false),
        _ => Err(unexpected("true or false", json)),
    }
}

fn double(json: &Json) -> Read<f64> {
    let refused = || unexpected("a number", json);
    match json {
        Json::Number(number) => number.as_f64().ok_or_else(refused),
        Json::String(text) => match text.as_str() {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            // Rust's own words for these are not JSON's.
            text if text.chars().any(char::is_alphabetic) && !text.contains(['e', 'E']) => {
                Err(refused())
            }
            text => text.parse().map_err(|_| refused()),
        },
        _ => Err(refused()),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "what does not fit becomes infinite")]
fn float(json: &Json) -> Read<f32> {
    let wide = double(json)?;
    let narrow = wide as f32;
    if wide.is_finite() && !narrow.is_finite() {
        return Err(unexpected("a 32-bit floating-point number", json));
    }
    Ok(narrow)
}

/// A whole number that fits its field.
fn fitting<T: TryFrom<i128>>(json: &Json) -> Read<T> {
    let whole = whole(json).ok_or_else(|| unexpected("a whole number", json))?;
    T::try_from(whole).map_err(|_| ConfigError::without_path(format!("{whole} is out of range")))
}

/// A whole number, written as one, as a number with a fraction of zero, or as text of either.
fn whole(json: &Json) -> Option<i128> {
    match json {
        Json::Number(number) => whole_number(number),
        Json::String(text) => {
            let plain = text.strip_prefix(['-', '+']).unwrap_or(text);
            if !plain.starts_with(|c: char| c.is_ascii_digit()) {
                return None;
            }
            text.parse().ok().or_else(|| whole_double(text.parse().ok()?))
        }
        _ => None,
    }
}

/// A number without a fraction.
pub(super) fn whole_number(number: &Number) -> Option<i128> {
    number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))
        .or_else(|| whole_double(number.as_f64()?))
}

#[allow(clippy::cast_possible_truncation, reason = "it is a whole number within the bound")]
fn whole_double(number: f64) -> Option<i128> {
    (number.fract() == 0.0 && number.abs() <= MAX_WHOLE).then_some(number as i128)
}

/// Base64 in the standard or the URL alphabet, with or without padding.
fn bytes(json: &Json) -> Read<Vec<u8>> {
    let text = text(json)?.replace('-', "+").replace('_', "/");
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let alphabet: &Alphabet = &base64::alphabet::STANDARD;
    GeneralPurpose::new(alphabet, config)
        .decode(text)
        .map_err(|error| ConfigError::without_path(format!("is not valid base64: {error}")))
}

/// A value of an enumeration: its name in any case, or its number.
fn enumeration(names: &EnumDescriptor, json: &Json) -> Read<i32> {
    let named = json
        .as_str()
        .and_then(|name| names.values().find(|value| value.name().eq_ignore_ascii_case(name)));
    if let Some(value) = named {
        return Ok(value.number());
    }
    let Some(number) = whole(json) else {
        let known: Vec<String> = names.values().map(|value| value.name().to_owned()).collect();
        let written = json.as_str().map_or_else(|| json.to_string(), str::to_owned);
        return Err(ConfigError::without_path(format!(
            "`{written}` is not a value of {}{}",
            names.name(),
            nearest(&written, known.iter().map(String::as_str)),
        )));
    };
    i32::try_from(number)
        .map_err(|_| ConfigError::without_path(format!("{number} is out of range")))
}

/// `google.protobuf.Duration` as text: seconds with up to nine decimals, and `s`.
pub(super) fn duration(text: &str) -> Read<(i64, i32)> {
    let refused = || {
        ConfigError::without_path(format!(
            "`{text}` is not a duration: write seconds and `s`, as in 0.25s"
        ))
    };
    let number = text.strip_suffix('s').ok_or_else(refused)?;
    let (whole, decimals) = match number.split_once('.') {
        Some((_, "")) => return Err(refused()),
        Some((whole, decimals)) => (whole, decimals),
        None => (number, ""),
    };
    let digits = decimals.bytes().all(|byte| byte.is_ascii_digit()) && decimals.len() <= 9;
    let begins = whole.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit());
    let seconds: i64 = whole.parse().ok().filter(|_| digits && begins).ok_or_else(refused)?;
    let nanos: i32 = format!("{decimals:0<9}").parse().map_err(|_| refused())?;
    Ok((seconds, if whole.starts_with('-') { -nanos } else { nanos }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whole_numbers_may_be_texts_and_have_a_fraction_of_zero() {
        for good in [json!(8192), json!("8192"), json!(8192.0), json!("8.192e3"), json!("8192.0")] {
            assert_eq!(fitting::<u32>(&good), Ok(8192), "{good}");
        }
        for bad in [json!(8192.5), json!(-1), json!(4_294_967_296_u64), json!(" 5"), json!("5 ")] {
            assert!(fitting::<u32>(&bad).is_err(), "{bad}");
        }
        for bad in [json!(""), json!("inf"), json!("0x10"), json!(true), json!(null), json!([1])] {
            assert!(fitting::<u32>(&bad).is_err(), "{bad}");
        }
        assert_eq!(fitting::<u64>(&json!(u64::MAX)), Ok(u64::MAX));
        assert_eq!(fitting::<i64>(&json!("-5")), Ok(-5));
    }

    #[test]
    fn words_for_booleans_are_read() {
        for yes in [json!(true), json!("true"), json!("Yes"), json!("1")] {
            assert_eq!(boolean(&yes), Ok(true), "{yes}");
        }
        assert_eq!(boolean(&json!("no")), Ok(false));
        assert!(boolean(&json!(1)).is_err() && boolean(&json!("on")).is_err());
    }

    #[test]
    fn durations_are_read_to_the_nanosecond() {
        assert_eq!(duration("0.25s"), Ok((0, 250_000_000)));
        assert_eq!(duration("0.250s"), Ok((0, 250_000_000)));
        assert_eq!(duration("-0.5s"), Ok((0, -500_000_000)));
        assert_eq!(duration("3s"), Ok((3, 0)));
        for bad in ["250ms", "1", "1.s", ".5s", "0.2500000001s", "s", "", "1 s", "--1s", "+1s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn doubles_are_read_and_other_words_are_not() {
        assert_eq!(double(&json!("0.5")), Ok(0.5));
        assert_eq!(double(&json!("-Infinity")), Ok(f64::NEG_INFINITY));
        assert!(double(&json!("inf")).is_err() && double(&json!("nan")).is_err());
        assert!(float(&json!(1e39)).is_err());
    }

    #[test]
    fn bytes_are_read_in_both_alphabets_with_and_without_padding() {
        for text in ["+/8=", "-_8=", "-_8"] {
            assert_eq!(bytes(&json!(text)), Ok(vec![0xfb, 0xff]), "{text}");
        }
        assert!(bytes(&json!("*")).is_err());
    }
}
