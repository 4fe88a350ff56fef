//! What a service can do wrong.

use callout_integration::faulty::Fault;
use h2::Reason;

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The failure mode decides.
    Failure,
    /// It counts as an answer.
    Allowed,
    /// One or the other, by filter and by who carries the call.
    Either,
}

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) fault: Fault,
    pub(crate) expected: Expected,
}

const fn fails(name: &'static str, fault: Fault) -> Row {
    Row { name, fault, expected: Expected::Failure }
}

const fn passes(name: &'static str, fault: Fault) -> Row {
    Row { name, fault, expected: Expected::Allowed }
}

pub(crate) const ROWS: &[Row] = &[
    fails("nobody listens", Fault::Refused),
    fails("its host drops what opens a connection", Fault::BlackHole),
    fails("accepts and closes", Fault::AcceptsAndCloses),
    fails("accepts and resets", Fault::AcceptsAndResets),
    fails("accepts and is mute", Fault::Mute),
    fails("talks HTTP/1", Fault::Http1),
    fails("sends bytes of no protocol", Fault::Garbage),
    fails("takes calls and never answers", Fault::Silent),
    passes("slow, within the deadline", Fault::Slow(100)),
    fails("slower than the deadline", Fault::Slow(2000)),
    fails("resets the stream: INTERNAL_ERROR", Fault::Resets(Reason::INTERNAL_ERROR)),
    fails("resets the stream: CANCEL", Fault::Resets(Reason::CANCEL)),
    fails("resets the stream: ENHANCE_YOUR_CALM", Fault::Resets(Reason::ENHANCE_YOUR_CALM)),
    fails("closes in the middle of an answer", Fault::DiesMidway),
    fails("gRPC status CANCELLED (1)", Fault::Status(1)),
    fails("gRPC status UNKNOWN (2)", Fault::Status(2)),
    fails("gRPC status INVALID_ARGUMENT (3)", Fault::Status(3)),
    fails("gRPC status NOT_FOUND (5)", Fault::Status(5)),
    fails("gRPC status PERMISSION_DENIED (7)", Fault::Status(7)),
    fails("gRPC status RESOURCE_EXHAUSTED (8)", Fault::Status(8)),
    fails("gRPC status UNIMPLEMENTED (12)", Fault::Status(12)),
    fails("gRPC status INTERNAL (13)", Fault::Status(13)),
    fails("gRPC status UNAVAILABLE (14)", Fault::Status(14)),
    fails("gRPC status UNAUTHENTICATED (16)", Fault::Status(16)),
    fails("a gRPC status that nobody knows (99)", Fault::Status(99)),
    fails("a gRPC status that is not a number", Fault::StatusText),
    fails("HTTP 200 with a page", Fault::Page(200)),
    fails("HTTP 404 with a page", Fault::Page(404)),
    fails("HTTP 503 with a page", Fault::Page(503)),
    fails("a valid message under HTTP 503", Fault::MessageUnder(503)),
    fails("a message that is not protobuf", Fault::Malformed),
    fails("a message shorter than it says", Fault::Cut),
    fails("a message that says it is compressed", Fault::Compressed),
    fails("a message that says it is a gibibyte", Fault::TooLong),
    fails("two thousand header lines", Fault::ManyHeaders),
    Row { name: "trailers of 100 KiB", fault: Fault::LongTrailers, expected: Expected::Either },
    // A processor that closes so has nothing to say.
    Row { name: "no message, status 0", fault: Fault::NoMessage, expected: Expected::Either },
    fails("a message, and no status after it", Fault::NoStatus),
];
