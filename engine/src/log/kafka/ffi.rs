//! Calls of librdkafka that its safe Rust layer lacks or makes dear: a partition's records by
//! callback, production by topic handle, delivery reports by the batch; in `group`, who a member is,
//! and offsets in its name. The one module of the workspace with unsafe code: it turns pointers
//! into slices that cannot outlive what they point into, and decides nothing. Must not know what the
//! engine does.
//!
//! Records are taken with `rd_kafka_consume_callback`, not with `rd_kafka_consume_batch_queue`: up
//! to 2.12 the batch call moves the consumer's position past an end-of-partition event as if it
//! were a record (librdkafka #4844), and whoever pauses the partition then skips one. It is cheaper
//! too: the lock of the queue is taken once for all records, not once for each.

#![expect(unsafe_code, reason = "librdkafka is C, and its safe layer lacks these calls")]

pub(super) mod group;

use std::any::Any;
use std::ffi::{CStr, CString, c_int, c_void};
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings::{self as native, rd_kafka_vtype_t as Vtype};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaRespErr;

/// A client of librdkafka.
///
/// # Safety
/// The handle is valid for as long as the value lives.
pub(super) unsafe trait Native {
    /// The client's handle.
    fn native(&self) -> *mut native::rd_kafka_t;
}

// SAFETY: the consumer owns its handle and destroys it when it is dropped.
unsafe impl<C: ConsumerContext> Native for BaseConsumer<C> {
    fn native(&self) -> *mut native::rd_kafka_t {
        self.client().native_ptr()
    }
}

// SAFETY: the producer owns its handle and destroys it when it is dropped.
unsafe impl<C: ProducerContext> Native for BaseProducer<C> {
    fn native(&self) -> *mut native::rd_kafka_t {
        self.client().native_ptr()
    }
}

/// A topic as one client knows it. Holding it saves a search for the name with every record.
pub(super) struct Topic<N: Native> {
    handle: NonNull<native::rd_kafka_topic_t>,
    client: Arc<N>,
}

// SAFETY: librdkafka's handles may be used by any thread, several at once ("thread-safe API").
unsafe impl<N: Native + Send + Sync> Send for Topic<N> {}
// SAFETY: as above.
unsafe impl<N: Native + Send + Sync> Sync for Topic<N> {}

impl<N: Native> Topic<N> {
    /// A handle of this topic, whether or not it exists.
    ///
    /// # Errors
    /// The name cannot be a topic's, or properties of topics contradict each other.
    pub(super) fn open(client: &Arc<N>, name: &str) -> Result<Self, RDKafkaErrorCode> {
        let name = CString::new(name).map_err(|_zero| RDKafkaErrorCode::InvalidTopic)?;
        // SAFETY: the client is alive, the name ends with a zero byte and is copied, and no
        // configuration stands for the client's own.
        let handle =
            unsafe { native::rd_kafka_topic_new(client.native(), name.as_ptr(), ptr::null_mut()) };
        let handle = NonNull::new(handle).ok_or_else(|| {
            // SAFETY: reads a number of this thread.
            RDKafkaErrorCode::from(unsafe { native::rd_kafka_last_error() })
        })?;
        Ok(Self { handle, client: Arc::clone(client) })
    }
}

impl<N: Native> Drop for Topic<N> {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and is given back once, while its client is still alive.
        unsafe { native::rd_kafka_topic_destroy(self.handle.as_ptr()) }
    }
}

// ---- records of a partition ---------------------------------------------------------------------

/// What lies in a partition's queue.
pub(super) enum Fetch<'a> {
    /// A record.
    Record(Message<'a>),
    /// The end of the partition, at this offset: nothing was behind it when it was fetched.
    End(i64),
    /// Fetching has failed.
    Failed(RDKafkaErrorCode),
}

/// A fetched record, valid during the call that lends it.
pub(super) struct Message<'a> {
    message: NonNull<native::rd_kafka_message_t>,
    lent: PhantomData<&'a native::rd_kafka_message_t>,
}

impl<'a> Message<'a> {
    pub(super) fn offset(&self) -> i64 {
        // SAFETY: the message is valid for 'a.
        unsafe { (*self.message.as_ptr()).offset }
    }

    /// Milliseconds since 1970, if the record has a time.
    pub(super) fn timestamp(&self) -> Option<i64> {
        let mut kind = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid and the kind may be written.
        let time = unsafe { native::rd_kafka_message_timestamp(self.message.as_ptr(), &mut kind) };
        (kind != native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && time != -1)
            .then_some(time)
    }

    pub(super) fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: pointer and length are those of a message that is valid for 'a.
        unsafe { bytes((*self.message.as_ptr()).key, (*self.message.as_ptr()).key_len) }
    }

    pub(super) fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: as above.
        unsafe { bytes((*self.message.as_ptr()).payload, (*self.message.as_ptr()).len) }
    }

    /// The headers; none is an empty list.
    ///
    /// # Errors
    /// Their encoding is damaged.
    pub(super) fn headers(&self) -> Result<MessageHeaders<'a>, RDKafkaErrorCode> {
        let mut list = ptr::null_mut();
        // SAFETY: the message is valid, and the list that is written belongs to it.
        let code =
            unsafe { native::rd_kafka_message_headers(self.message.as_ptr(), &raw mut list) };
        match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::NoError => {}
            RDKafkaErrorCode::NoEnt => list = ptr::null_mut(),
            code => return Err(code),
        }
        let list = NonNull::new(list);
        // SAFETY: the list is valid for as long as its message.
        let count = list.map_or(0, |list| unsafe { native::rd_kafka_header_cnt(list.as_ptr()) });
        Ok(MessageHeaders { list, next: 0, count, lent: PhantomData })
    }
}

/// The headers of a fetched record in order: the name up to its first zero byte, and the value.
pub(super) struct MessageHeaders<'a> {
    list: Option<NonNull<native::rd_kafka_headers_t>>,
    next: usize,
    count: usize,
    lent: PhantomData<&'a native::rd_kafka_message_t>,
}

impl<'a> Iterator for MessageHeaders<'a> {
    type Item = (&'a CStr, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let list = self.list?;
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the list is valid for as long as its message, and the three may be written.
        let code = unsafe {
            native::rd_kafka_header_get_all(
                list.as_ptr(),
                self.next,
                &raw mut name,
                &raw mut value,
                &raw mut size,
            )
        };
        if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        self.next += 1;
        // SAFETY: librdkafka ends names with a zero byte; name and value live as long as the list.
        Some(unsafe { (CStr::from_ptr(name), bytes(value, size)) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.count - self.next.min(self.count);
        (left, Some(left))
    }
}

impl ExactSizeIterator for MessageHeaders<'_> {}

/// # Safety
/// `at` is null or points to `len` bytes that are valid and unchanged for `'a`.
unsafe fn bytes<'a>(at: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!at.is_null()).then(|| unsafe { slice::from_raw_parts(at.cast::<u8>(), len) })
}

/// What the callback is given.
struct Visit<'v, F> {
    each: &'v mut F,
    client: *mut native::rd_kafka_t,
    panic: Option<Box<dyn Any + Send>>,
}

impl<C: ConsumerContext> Topic<BaseConsumer<C>> {
    /// Hands out what lies in the queue of a partition, which must be split off, until `each` breaks
    /// or there is nothing. At most so many in one call as `consume.callback.max.messages` says.
    /// What is left stays in the queue. Never waits. Gives how many were handed out or passed over.
    ///
    /// # Errors
    /// The partition has no queue.
    pub(super) fn take<F>(&self, partition: i32, mut each: F) -> Result<usize, RDKafkaErrorCode>
    where
        F: FnMut(Fetch<'_>) -> ControlFlow<()>,
    {
        let client = self.client.native();
        let mut visit = Visit { each: &mut each, client, panic: None };
        // SAFETY: the handle is valid; the callback is the one that reads this type of `visit`, and
        // is called during this call only, on this thread.
        let taken = unsafe {
            native::rd_kafka_consume_callback(
                self.handle.as_ptr(),
                partition,
                0,
                Some(visit_one::<F>),
                (&raw mut visit).cast(),
            )
        };
        if let Some(panic) = visit.panic {
            resume_unwind(panic);
        }
        usize::try_from(taken).map_err(|_negative| RDKafkaErrorCode::UnknownPartition)
    }
}

/// # Safety
/// `visit` points to a `Visit<F>` that nobody else uses, `message` to a message that is valid during
/// the call.
unsafe extern "C" fn visit_one<F>(message: *mut native::rd_kafka_message_t, visit: *mut c_void)
where
    F: FnMut(Fetch<'_>) -> ControlFlow<()>,
{
    // SAFETY: the caller's promise.
    let visit = unsafe { &mut *visit.cast::<Visit<'_, F>>() };
    let each = AssertUnwindSafe(|| {
        // SAFETY: the caller's promise; the closure cannot keep what it is lent.
        (visit.each)(unsafe { fetched(message) })
    });
    // A panic must not cross C; it goes on behind it.
    let outcome = catch_unwind(each).unwrap_or_else(|panic| {
        visit.panic = Some(panic);
        ControlFlow::Break(())
    });
    if outcome.is_break() {
        // SAFETY: the client is alive. It ends the loop that calls us; the rest goes back.
        unsafe { native::rd_kafka_yield(visit.client) }
    }
}

/// # Safety
/// `message` is valid for `'a`.
unsafe fn fetched<'a>(message: *mut native::rd_kafka_message_t) -> Fetch<'a> {
    // SAFETY: the caller's promise. The code is read as a number, for a newer broker may send one
    // that the enum does not have.
    let (code, offset) =
        unsafe { ((&raw const (*message).err).cast::<i32>().read(), (*message).offset) };
    let code = RDKafkaRespErr::try_from(code).map_or(RDKafkaErrorCode::Unknown, Into::into);
    match (code, NonNull::new(message)) {
        (RDKafkaErrorCode::NoError, Some(message)) => {
            Fetch::Record(Message { message, lent: PhantomData })
        }
        (RDKafkaErrorCode::PartitionEOF, _) => Fetch::End(offset),
        (code, _) => Fetch::Failed(code),
    }
}

// ---- records to a partition ---------------------------------------------------------------------

/// A record to be sent; its bytes are copied.
pub(super) struct Outgoing<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    /// Milliseconds since 1970; 0 is taken for the present.
    pub(super) timestamp: i64,
    pub(super) headers: Option<OutgoingHeaders>,
    /// Comes back with the delivery report.
    pub(super) tag: usize,
}

/// Headers to be sent.
pub(super) struct OutgoingHeaders {
    list: NonNull<native::rd_kafka_headers_t>,
}

impl OutgoingHeaders {
    pub(super) fn with_capacity(headers: usize) -> Self {
        // SAFETY: nothing is asked of the caller; the list is ours.
        let list = unsafe { native::rd_kafka_headers_new(headers) };
        Self { list: NonNull::new(list).expect("librdkafka ends the process when memory does") }
    }

    /// Adds a header behind the others.
    ///
    /// # Errors
    /// librdkafka refuses it.
    pub(super) fn add(&mut self, name: &str, value: Option<&[u8]>) -> Result<(), RDKafkaErrorCode> {
        let length = |len: usize| isize::try_from(len).expect("a slice has no more bytes");
        let (at, size) = value.map_or((ptr::null(), 0), |v| (v.as_ptr(), length(v.len())));
        // SAFETY: the list is ours; name and value are valid for their lengths and are copied.
        let code = unsafe {
            native::rd_kafka_header_add(
                self.list.as_ptr(),
                name.as_ptr().cast(),
                length(name.len()),
                at.cast(),
                size,
            )
        };
        succeeded(code)
    }
}

impl Drop for OutgoingHeaders {
    fn drop(&mut self) {
        // SAFETY: the list is ours; where a record took it over, it was forgotten.
        unsafe { native::rd_kafka_headers_destroy(self.list.as_ptr()) }
    }
}

fn succeeded(code: RDKafkaRespErr) -> Result<(), RDKafkaErrorCode> {
    match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::NoError => Ok(()),
        code => Err(code),
    }
}

fn address(bytes: Option<&[u8]>) -> (*const u8, usize) {
    bytes.map_or((ptr::null(), 0), |bytes| (bytes.as_ptr(), bytes.len()))
}

impl<C: ProducerContext> Topic<BaseProducer<C>> {
    /// Puts a record into the producer's queue. Never waits.
    ///
    /// # Errors
    /// The queue is full, or the record or the topic is refused; nothing was taken.
    pub(super) fn produce(
        &self,
        partition: i32,
        mut record: Outgoing<'_>,
    ) -> Result<(), RDKafkaErrorCode> {
        let (key, key_len) = address(record.key);
        let (value, value_len) = address(record.value);
        let headers = record.headers.as_ref().map_or(ptr::null_mut(), |h| h.list.as_ptr());
        // SAFETY: client and topic are alive; each argument has the type that its tag asks for; key
        // and value are copied; the tag is a number that nobody follows.
        let code = unsafe {
            native::rd_kafka_producev(
                self.client.native(),
                Vtype::RD_KAFKA_VTYPE_RKT,
                self.handle.as_ptr(),
                Vtype::RD_KAFKA_VTYPE_PARTITION,
                partition,
                Vtype::RD_KAFKA_VTYPE_MSGFLAGS,
                native::RD_KAFKA_MSG_F_COPY,
                Vtype::RD_KAFKA_VTYPE_VALUE,
                value.cast::<c_void>(),
                value_len,
                Vtype::RD_KAFKA_VTYPE_KEY,
                key.cast::<c_void>(),
                key_len,
                Vtype::RD_KAFKA_VTYPE_OPAQUE,
                ptr::without_provenance_mut::<c_void>(record.tag),
                Vtype::RD_KAFKA_VTYPE_TIMESTAMP,
                record.timestamp,
                Vtype::RD_KAFKA_VTYPE_HEADERS,
                headers,
                Vtype::RD_KAFKA_VTYPE_END,
            )
        };
        succeeded(code)?;
        if let Some(headers) = record.headers.take() {
            // The record owns them now.
            let _owned_by_librdkafka = std::mem::ManuallyDrop::new(headers);
        }
        Ok(())
    }
}

// ---- events of a producer -----------------------------------------------------------------------

/// The events of a producer: delivery reports, log lines, errors.
pub(super) struct Events<C: ProducerContext> {
    queue: NonNull<native::rd_kafka_queue_t>,
    client: Arc<BaseProducer<C>>,
}

// SAFETY: librdkafka's queues may be used by any thread, several at once.
unsafe impl<C: ProducerContext> Send for Events<C> {}
// SAFETY: as above.
unsafe impl<C: ProducerContext> Sync for Events<C> {}

/// An event of a producer.
pub(super) enum Event<'a> {
    /// Records were delivered, or given up.
    Deliveries(Reports<'a>),
    /// A log line of the client.
    Log(RDKafkaLogLevel, &'a str, &'a str),
    /// An error of the client as a whole, with its reason.
    Error(RDKafkaErrorCode, &'a str),
}

/// What became of each record of one event.
pub(super) struct Reports<'a> {
    event: NonNull<native::rd_kafka_event_t>,
    lent: PhantomData<&'a native::rd_kafka_event_t>,
}

/// What became of one record.
pub(super) struct Report<'a> {
    pub(super) tag: usize,
    /// Where it lies, negative if the broker did not say.
    pub(super) offset: i64,
    pub(super) error: Option<RDKafkaErrorCode>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
}

impl<'a> Iterator for Reports<'a> {
    type Item = Report<'a>;

    fn next(&mut self) -> Option<Report<'a>> {
        // SAFETY: the event is valid for 'a, and so are the messages that it lends.
        unsafe {
            let message = native::rd_kafka_event_message_next(self.event.as_ptr());
            if message.is_null() {
                return None;
            }
            // Read as a number, for a newer broker may send one that the enum does not have.
            let code = (&raw const (*message).err).cast::<i32>().read();
            let code = RDKafkaRespErr::try_from(code).map_or(RDKafkaErrorCode::Unknown, Into::into);
            Some(Report {
                tag: (*message)._private.addr(),
                offset: (*message).offset,
                error: (code != RDKafkaErrorCode::NoError).then_some(code),
                key: bytes((*message).key, (*message).key_len),
                value: bytes((*message).payload, (*message).len),
            })
        }
    }
}

impl<C: ProducerContext> Events<C> {
    pub(super) fn of(client: &Arc<BaseProducer<C>>) -> Self {
        // SAFETY: the client is alive; the reference to its queue is ours.
        let queue = unsafe { native::rd_kafka_queue_get_main(client.native()) };
        let queue = NonNull::new(queue).expect("every client has a main queue");
        Self { queue, client: Arc::clone(client) }
    }

    pub(super) fn client(&self) -> &Arc<BaseProducer<C>> {
        &self.client
    }

    /// Waits for an event, no longer than this, and hands it out. False if none came, also when
    /// [`wake`](Self::wake) was called.
    pub(super) fn next(&self, within: Duration, each: impl FnOnce(Event<'_>)) -> bool {
        // SAFETY: the queue is valid.
        let event =
            unsafe { native::rd_kafka_queue_poll(self.queue.as_ptr(), milliseconds(within)) };
        let Some(event) = NonNull::new(event) else { return false };
        let event = OwnedEvent(event);
        if let Some(event) = event.read() {
            each(event);
        }
        true
    }

    /// Ends the wait of whoever waits for an event; the next one, if nobody does.
    pub(super) fn wake(&self) {
        // SAFETY: the queue is valid.
        unsafe { native::rd_kafka_queue_yield(self.queue.as_ptr()) }
    }

    /// Sends what waits for others of its batch. Waits until nothing is in flight, no longer than
    /// this; what is acknowledged stays in flight until its report is taken, which it does not do.
    pub(super) fn flush(&self, within: Duration) {
        // SAFETY: the client is alive. The answer says whether all is delivered, which is counted.
        let _code: RDKafkaRespErr =
            unsafe { native::rd_kafka_flush(self.client.native(), milliseconds(within)) };
    }
}

impl<C: ProducerContext> Drop for Events<C> {
    fn drop(&mut self) {
        // SAFETY: the reference is ours and given back once, while the client is alive.
        unsafe { native::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// An event, destroyed with everything that it lends.
struct OwnedEvent(NonNull<native::rd_kafka_event_t>);

impl OwnedEvent {
    /// What it says; nothing for kinds that nobody asked for.
    fn read(&self) -> Option<Event<'_>> {
        let event = self.0.as_ptr();
        // SAFETY: the event is valid for as long as `self`, and so are the strings that it lends.
        unsafe {
            match native::rd_kafka_event_type(event) {
                native::RD_KAFKA_EVENT_DR => {
                    Some(Event::Deliveries(Reports { event: self.0, lent: PhantomData }))
                }
                native::RD_KAFKA_EVENT_LOG => {
                    let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
                    let answer = native::rd_kafka_event_log(
                        event,
                        &raw mut facility,
                        &raw mut line,
                        &raw mut level,
                    );
                    (answer == 0).then(|| Event::Log(log_level(level), text(facility), text(line)))
                }
                native::RD_KAFKA_EVENT_ERROR => {
                    let code = native::rd_kafka_event_error(event);
                    Some(Event::Error(
                        code.into(),
                        text(native::rd_kafka_event_error_string(event)),
                    ))
                }
                _ => None,
            }
        }
    }
}

impl Drop for OwnedEvent {
    fn drop(&mut self) {
        // SAFETY: the event is ours and destroyed once.
        unsafe { native::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// # Safety
/// `at` is null or points to a string that ends with a zero byte and is valid for `'a`.
unsafe fn text<'a>(at: *const std::ffi::c_char) -> &'a str {
    if at.is_null() {
        return "";
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(at) }.to_str().unwrap_or("(text that is not UTF-8)").trim()
}

/// syslog's levels.
fn log_level(level: c_int) -> RDKafkaLogLevel {
    match level {
        0 => RDKafkaLogLevel::Emerg,
        1 => RDKafkaLogLevel::Alert,
        2 => RDKafkaLogLevel::Critical,
        3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 => RDKafkaLogLevel::Notice,
        6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}

fn milliseconds(time: Duration) -> c_int {
    c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX)
}

#[cfg(test)]
mod tests;
