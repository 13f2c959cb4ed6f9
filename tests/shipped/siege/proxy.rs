//! A network between a client and the server that does to packets what nobody would wish for.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::elsewhere;

/// What becomes of a packet of the client's.
#[derive(Clone, Copy, PartialEq)]
pub enum Fate {
    Pass,
    Drop,
    Twice,
    /// After the next one.
    Late,
    /// With some bits flipped.
    Broken,
}

pub struct Proxy {
    pub address: SocketAddr,
    /// Everything the client sent.
    pub sent: Arc<Mutex<Vec<Vec<u8>>>>,
    back: UdpSocket,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy to `server`; `fate` is asked for each packet, with its number.
    pub fn start(server: SocketAddr, fate: impl Fn(usize) -> Fate + Send + 'static) -> Self {
        let front = UdpSocket::bind(elsewhere()).unwrap();
        let back = UdpSocket::bind(elsewhere()).unwrap();
        back.connect(server).unwrap();
        let address = front.local_addr().unwrap();
        let (sent, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let client = Arc::new(Mutex::new(None));
        for socket in [&front, &back] {
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        }
        let there = {
            let (front, back) = (front.try_clone().unwrap(), back.try_clone().unwrap());
            let (sent, over, client) = (sent.clone(), over.clone(), client.clone());
            std::thread::spawn(move || {
                let (mut buffer, mut late) = (vec![0; 65_536], None);
                while !over.load(SeqCst) {
                    let Ok((length, from)) = front.recv_from(&mut buffer) else { continue };
                    *client.lock().unwrap() = Some(from);
                    let mut packet = buffer[..length].to_vec();
                    let number = {
                        let mut sent = sent.lock().unwrap();
                        sent.push(packet.clone());
                        sent.len()
                    };
                    // The server may be gone for a moment as far as the system is concerned.
                    let pass = |packet: &[u8]| drop(back.send(packet));
                    match fate(number) {
                        Fate::Pass => pass(&packet),
                        Fate::Drop => {}
                        Fate::Twice => (pass(&packet), pass(&packet)).0,
                        Fate::Late => late = Some(packet),
                        Fate::Broken => {
                            packet.iter_mut().skip(number % 30).step_by(37).for_each(|byte| *byte ^= 1 << (number % 8));
                            pass(&packet);
                        }
                    }
                    if fate(number) != Fate::Late
                        && let Some(packet) = late.take()
                    {
                        pass(&packet);
                    }
                }
            })
        };
        let here = {
            let (back, over) = (back.try_clone().unwrap(), over.clone());
            std::thread::spawn(move || {
                let mut buffer = vec![0; 65_536];
                while !over.load(SeqCst) {
                    let Ok(length) = back.recv(&mut buffer) else { continue };
                    let to = *client.lock().unwrap();
                    to.iter().for_each(|to| drop(front.send_to(&buffer[..length], to)));
                }
            })
        };
        Self { address, sent, back, over, threads: vec![there, here] }
    }

    /// Sends everything the client sent once more, from where it came from.
    pub fn replay(&self) {
        for packet in self.sent.lock().unwrap().iter() {
            let _ = self.back.send(packet);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
