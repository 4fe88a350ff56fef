//! The streams of a worker that may be told something, by tickets.

use std::rc::Rc;

use crate::envoy::host::Seated;

/// Names a seat. It says nothing once the stream has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    seat: usize,
    era: u64,
}

struct Seat {
    era: u64,
    /// Its place in `taken`.
    place: usize,
    stream: Option<Rc<dyn Seated>>,
}

/// All seats of a worker.
#[derive(Default)]
pub(crate) struct Seats {
    seats: Vec<Seat>,
    free: Vec<usize>,
    taken: Vec<usize>,
    /// The seat of the stream whose scheduler rings this worker.
    carrier: Option<usize>,
}

impl Seats {
    /// Seats `stream`. Whether nobody carried the bell, so that it has to.
    pub(crate) fn take(&mut self, stream: Rc<dyn Seated>) -> (Ticket, bool) {
        let place = self.taken.len();
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.seats.push(Seat { era: 0, place, stream: None });
                self.seats.len() - 1
            }
        };
        let mut era = 0;
        if let Some(seat) = self.seats.get_mut(number) {
            (seat.place, seat.stream) = (place, Some(stream));
            era = seat.era;
        }
        self.taken.push(number);
        let carries = self.carrier.is_none();
        if carries {
            self.carrier = Some(number);
        }
        (Ticket { seat: number, era }, carries)
    }

    /// The stream that `ticket` names, if it has not left.
    pub(crate) fn get(&self, ticket: Ticket) -> Option<Rc<dyn Seated>> {
        let seat = self.seats.get(ticket.seat).filter(|seat| seat.era == ticket.era)?;
        seat.stream.clone()
    }

    /// The stream leaves. If it carried the bell: the one that carries it from now on, if any.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<Option<Rc<dyn Seated>>> {
        let seat = self.seats.get_mut(ticket.seat).filter(|seat| seat.era == ticket.era)?;
        seat.era += 1;
        let (place, stream) = (seat.place, seat.stream.take());
        self.taken.swap_remove(place);
        if let Some(moved) = self.taken.get(place).and_then(|moved| self.seats.get_mut(*moved)) {
            moved.place = place;
        }
        self.free.push(ticket.seat);
        drop(stream);
        if self.carrier != Some(ticket.seat) {
            return None;
        }
        self.carrier = self.taken.last().copied();
        let next = self.carrier.and_then(|next| self.seats.get(next));
        Some(next.and_then(|seat| seat.stream.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::host::Scheduler;

    struct Nobody;

    impl Seated for Nobody {
        fn scheduler(&self) -> Box<dyn Scheduler> {
            unreachable!("nobody rings")
        }

        fn deliver(&self) {}
    }

    #[test]
    fn a_ticket_is_void_once_its_stream_left_though_the_seat_is_taken_again() {
        let mut seats = Seats::default();
        let (first, carries) = seats.take(Rc::new(Nobody));
        assert!(carries && seats.get(first).is_some());
        assert!(matches!(seats.leave(first), Some(None)));
        let (second, carries) = seats.take(Rc::new(Nobody));
        assert!(carries && seats.get(second).is_some() && seats.get(first).is_none());
        assert!(seats.leave(first).is_none());
    }

    #[test]
    fn there_is_a_carrier_as_long_as_anybody_sits() {
        let mut seats = Seats::default();
        let tickets: Vec<_> = (0..4).map(|_| seats.take(Rc::new(Nobody)).0).collect();
        assert!(seats.leave(tickets[1]).is_none());
        assert!(matches!(seats.leave(tickets[0]), Some(Some(_))));
        for ticket in [tickets[2], tickets[3]] {
            let _ = seats.leave(ticket);
        }
        assert!(seats.taken.is_empty() && seats.carrier.is_none());
    }
}
