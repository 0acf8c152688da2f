//! Which outcome an error number means.

use std::io;

use rustix::io::Errno;

use crate::generate::attempt_recorder::Ending;
use crate::model::outcome::Outcome;

/// Of a connect that failed (connect(2), tcp(7)).
pub(super) fn of_connect(errno: Errno) -> Ending {
    let outcome = match errno {
        Errno::CONNREFUSED => Outcome::Refused,
        // Before the handshake is over a reset is a refusal, so it was over.
        Errno::CONNRESET | Errno::PIPE => Outcome::ResetAfterConnect,
        Errno::TIMEDOUT => Outcome::ConnectTimeout,
        Errno::ADDRNOTAVAIL | Errno::ADDRINUSE => Outcome::LocalPortExhausted,
        Errno::NOBUFS | Errno::NOMEM => Outcome::FdLimit,
        // No route, a firewall's answer, an interface that is down: the server was not reached.
        _ => Outcome::Unreachable,
    };
    ending(outcome, errno)
}

/// Of an established connection on which sending or receiving failed.
pub(super) fn of_established(errno: Errno) -> Ending {
    let outcome = match errno {
        Errno::HOSTUNREACH | Errno::NETUNREACH => Outcome::Unreachable,
        Errno::NOBUFS | Errno::NOMEM => Outcome::FdLimit,
        _ => Outcome::ResetAfterConnect,
    };
    ending(outcome, errno)
}

/// Of a socket that could not be made; `None` if that says nothing about this one attempt, but that
/// none will succeed.
pub(super) fn of_socket(error: &io::Error) -> Option<Ending> {
    let errno = Errno::from_io_error(error)?;
    let outcome = match errno {
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Outcome::FdLimit,
        // Not EADDRNOTAVAIL: ports are left to connect, so it is the address that is not ours.
        Errno::ADDRINUSE => Outcome::LocalPortExhausted,
        _ => return None,
    };
    Some(ending(outcome, errno))
}

fn ending(outcome: Outcome, errno: Errno) -> Ending {
    Ending { outcome, errno: Some(errno.raw_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_outcomes_and_keep_their_numbers() {
        let cases = [
            (of_connect(Errno::CONNREFUSED), Outcome::Refused, 111),
            (of_connect(Errno::CONNRESET), Outcome::ResetAfterConnect, 104),
            (of_connect(Errno::TIMEDOUT), Outcome::ConnectTimeout, 110),
            (of_connect(Errno::ADDRNOTAVAIL), Outcome::LocalPortExhausted, 99),
            (of_connect(Errno::NETUNREACH), Outcome::Unreachable, 101),
            (of_connect(Errno::NOBUFS), Outcome::FdLimit, 105),
            (of_connect(Errno::NOMEM), Outcome::FdLimit, 12),
            (of_connect(Errno::PERM), Outcome::Unreachable, 1),
            (of_established(Errno::PIPE), Outcome::ResetAfterConnect, 32),
            (of_established(Errno::HOSTUNREACH), Outcome::Unreachable, 113),
            (of_established(Errno::NOMEM), Outcome::FdLimit, 12),
        ];
        for (ending, outcome, errno) in cases {
            assert_eq!(ending, Ending { outcome, errno: Some(errno) });
        }
        let full = of_socket(&Errno::MFILE.into()).unwrap();
        assert_eq!((full.outcome, full.errno), (Outcome::FdLimit, Some(24)));
        assert_eq!(of_socket(&Errno::AFNOSUPPORT.into()), None);
        assert_eq!(of_socket(&Errno::ADDRNOTAVAIL.into()), None);
    }
}
