//! One ledger for all configurations of this process that call one service: what two of them left
//! unspent would add up, and a reload would lose it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use super::{LeaseTable, Room};

type Ledgers = HashMap<(String, Room), Weak<LeaseTable>>;

static LEDGERS: LazyLock<Mutex<Ledgers>> = LazyLock::new(Mutex::default);

impl LeaseTable {
    /// The ledger of the service called `service`, of so much room. It lives as long as one of those
    /// that share it.
    pub(crate) fn shared(service: &str, room: Room) -> Arc<Self> {
        let mut ledgers = LEDGERS.lock().unwrap_or_else(PoisonError::into_inner);
        ledgers.retain(|_, ledger| ledger.strong_count() > 0);
        let key = (service.to_owned(), room);
        if let Some(ledger) = ledgers.get(&key).and_then(Weak::upgrade) {
            return ledger;
        }
        let ledger = Arc::new(Self::new(room));
        ledgers.insert(key, Arc::downgrade(&ledger));
        ledger
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn configurations_of_one_service_share_its_ledger_while_one_of_them_lives() {
        let ten = Room { entries: 10, bytes: 1000 };
        let twenty = Room { entries: 20, ..ten };
        let first = LeaseTable::shared("a", ten);
        assert!(Arc::ptr_eq(&first, &LeaseTable::shared("a", ten)));
        assert!(!Arc::ptr_eq(&first, &LeaseTable::shared("b", ten)));
        assert!(!Arc::ptr_eq(&first, &LeaseTable::shared("a", twenty)));
        let gone = Arc::downgrade(&first);
        drop(first);
        assert!(gone.upgrade().is_none());
    }
}
