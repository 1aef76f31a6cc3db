//! The least that ureq can be made to cost: a connector without deadlines, without a look at whether
//! the connection is still good, and with one write per request. Nobody could use it; it is the limit.

use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;

use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

#[derive(Debug)]
pub struct LeanConnector;

pub struct LeanTransport {
    stream: TcpStream,
    buffers: LazyBuffers,
    pending: Vec<u8>,
}

impl Connector for LeanConnector {
    type Out = LeanTransport;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let stream = TcpStream::connect(&details.addrs[..])?;
        stream.set_nodelay(true)?;
        Ok(Some(LeanTransport {
            stream,
            buffers: LazyBuffers::new(20 * 1024, 4096),
            pending: Vec::new(),
        }))
    }
}

impl Transport for LeanTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        self.pending.extend_from_slice(&self.buffers.output()[..amount]);
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.write_all(&self.pending)?;
        self.pending.clear();
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        true
    }
}

impl fmt::Debug for LeanTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeanTransport")
    }
}
