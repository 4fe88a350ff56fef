//! The one of two that belongs to a direction.

use callout_common::{Direction, Map};

/// The one of two values that belongs to `direction`.
pub(crate) const fn of_direction<T>(both: &mut [T; 2], direction: Direction) -> &mut T {
    let [request, response] = both;
    match direction {
        Direction::Request => request,
        Direction::Response => response,
    }
}

pub(crate) const fn headers_of(direction: Direction) -> Map {
    match direction {
        Direction::Request => Map::Request,
        Direction::Response => Map::Response,
    }
}

pub(crate) const fn trailers_of(direction: Direction) -> Map {
    match direction {
        Direction::Request => Map::RequestTrailers,
        Direction::Response => Map::ResponseTrailers,
    }
}
