//! getaddrinfo(3), with its errors in English: the C library's texts are in the system's language, and need
//! not be UTF-8.

#![allow(unsafe_code)] // getaddrinfo(3)

use std::ffi::{CString, c_int};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::unix::net::UnixDatagram;
use std::ptr;

use super::errors::internal;
use crate::error::{Error, ErrorKind, cut};

/// Linux's "no address in this family", which the crate libc lacks.
const EAI_ADDRFAMILY: c_int = -9;

/// The addresses of `name` with `port`, at least one. Blocks as long as the system's resolver does.
pub(super) fn addresses(name: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let list = List::ask_for(name)?;
    let addresses: Vec<_> = list.iter().filter_map(|info| address(info, port)).collect();
    if addresses.is_empty() {
        return Err(not_found("the host has no address", false));
    }
    Ok(addresses)
}

/// The result list of the C library.
struct List(*mut libc::addrinfo);

impl List {
    fn ask_for(name: &str) -> Result<Self, Error> {
        let name = CString::new(name).map_err(|_| not_found("there is no such host", false))?;
        let hints = libc::addrinfo {
            ai_flags: 0,
            ai_family: libc::AF_UNSPEC,
            ai_socktype: libc::SOCK_STREAM,
            ai_protocol: 0,
            ai_addrlen: 0,
            ai_addr: ptr::null_mut(),
            ai_canonname: ptr::null_mut(),
            ai_next: ptr::null_mut(),
        };
        let mut first = ptr::null_mut();
        // SAFETY: the name ends with a NUL; name, hints and result outlive the call, which writes only the
        // result.
        let code = unsafe { libc::getaddrinfo(name.as_ptr(), ptr::null(), &hints, &raw mut first) };
        if code != 0 {
            return Err(failure(code, io::Error::last_os_error()));
        }
        Ok(Self(first))
    }

    fn iter(&self) -> impl Iterator<Item = &libc::addrinfo> {
        // SAFETY: each link is NULL or points to an entry that lives until the list is dropped.
        let at = |link: *mut libc::addrinfo| unsafe { link.as_ref() };
        std::iter::successors(at(self.0), move |info| at(info.ai_next))
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: getaddrinfo(3) made it, and it is freed once.
        unsafe { libc::freeaddrinfo(self.0) };
    }
}

/// The complete address: a link-local one is unusable without its zone.
fn address(info: &libc::addrinfo, port: u16) -> Option<SocketAddr> {
    let holds = |size| !info.ai_addr.is_null() && info.ai_addrlen as usize >= size;
    match info.ai_family {
        libc::AF_INET if holds(size_of::<libc::sockaddr_in>()) => {
            // SAFETY: `ai_addr` points to `ai_addrlen` bytes, an address of the family `ai_family`.
            let v4 = unsafe { info.ai_addr.cast::<libc::sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, port).into())
        }
        libc::AF_INET6 if holds(size_of::<libc::sockaddr_in6>()) => {
            // SAFETY: as above.
            let v6 = unsafe { info.ai_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// The error for a code of getaddrinfo(3). `errno` was set by the lookup, which has its own thread.
fn failure(code: c_int, errno: io::Error) -> Error {
    if let Some(error) = lack_behind(code, &errno) {
        return internal("the lookup of the host name", &error);
    }
    match code {
        libc::EAI_NONAME => not_found("there is no such host", false),
        libc::EAI_NODATA | EAI_ADDRFAMILY => not_found("the host has no address", false),
        libc::EAI_AGAIN => not_found("no name server answers, or one failed temporarily", true),
        libc::EAI_FAIL => not_found("the name server refused to answer", true),
        libc::EAI_SYSTEM => not_found(cut(&errno.to_string(), 120), true),
        _ => not_found(&format!("the system's resolver failed with code {code}"), true),
    }
}

/// The lack of resources that caused a failure, if any. Without a free descriptor the C library can neither
/// read its files nor ask a name server, and reports that with any of its codes.
fn lack_behind(code: c_int, errno: &io::Error) -> Option<io::Error> {
    let has_no_descriptor = matches!(errno.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    if has_no_descriptor || (code == libc::EAI_SYSTEM && is_lack(errno)) {
        return errno.raw_os_error().map(io::Error::from_raw_os_error);
    }
    if code == libc::EAI_MEMORY {
        return Some(io::Error::from_raw_os_error(libc::ENOMEM));
    }
    // A module of the resolver may have lost the errno. No module needs more than two descriptors at once.
    let two = UnixDatagram::unbound().and_then(|one| Ok((one, UnixDatagram::unbound()?)));
    two.err().filter(is_lack)
}

/// Whether this process or machine lacks a resource. Such an error says nothing about a host.
pub(super) fn is_lack(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

pub(super) fn not_found(why: &str, is_temporary: bool) -> Error {
    Error::new(ErrorKind::Resolve, format!("The host name could not be resolved: {why}"))
        .with_cure("Check the base URL and this machine's name servers.")
        .with_retryable(is_temporary)
}
