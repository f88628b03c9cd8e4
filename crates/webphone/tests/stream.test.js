/** The stream of events, and what happens without one. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { EventParser, listen } from '../assets/stream.js';

const EVENTS = [
    { type: 'challenge.pending', data: '{"sid":"YC1"}' },
    { type: 'end', data: '{"why":"max-age"}' },
];
const STREAM =
    'retry: 10\n\nid: 1\nevent: challenge.pending\ndata: {"sid":"YC1"}\n\n: keep-alive\n\nevent: end\ndata: {"why":"max-age"}\n\n';

test('events are parsed however the stream is cut, with each kind of line break', () => {
    for (const lineBreak of ['\n', '\r\n', '\r']) {
        const stream = STREAM.replaceAll('\n', lineBreak);
        for (const size of [1, 2, 3, 7, stream.length]) {
            const parser = new EventParser();
            const pieces = stream.match(new RegExp(`.{1,${size}}`, 'gs'));
            // A carriage return at the very end may be followed by a line feed.
            const events = [...pieces, ' '].flatMap((piece) => parser.push(piece));
            assert.deepEqual(events, EVENTS, JSON.stringify([lineBreak, size]));
            assert.equal(parser.retry, 10);
        }
    }
});

test('data of several lines are joined, and an event without data is none', () => {
    const parser = new EventParser();
    assert.deepEqual(parser.push('data: a\ndata:b\n\nid: 48211\n\nevent: x\n\ndata\n\n'), [
        { type: 'message', data: 'a\nb' },
        { type: 'message', data: '' },
    ]);
});

/** Returns a response with this stream, which stays open if `isOpen`. */
function stream(text, isOpen = false) {
    const body = new ReadableStream({
        start(controller) {
            controller.enqueue(new TextEncoder().encode(text));
            if (!isOpen) {
                controller.close();
            }
        },
    });
    return new Response(body, { headers: { 'Content-Type': 'text/event-stream' } });
}

/** Listens with these responses until `looks` looks have happened, at most for a while. Returns what happened. */
async function run(responses, looks, milliseconds = 3_000) {
    const log = [];
    const ending = new AbortController();
    const timer = setTimeout(() => ending.abort(), milliseconds);
    const source = {
        async open() {
            log.push('open');
            const next = responses.shift();
            if (!next) {
                throw new TypeError('Failed to fetch');
            }
            return next;
        },
        async look() {
            log.push('look');
            if (log.filter((entry) => entry === 'look').length >= looks) {
                ending.abort();
            }
            return false;
        },
    };
    await listen(source, ending.signal);
    clearTimeout(timer);
    return log;
}

test('each event leads to a look, and the end of a stream to another stream', async () => {
    assert.deepEqual(await run([stream(STREAM), stream('', true)], 2), ['open', 'look', 'open', 'look']);
    const pending = 'event: challenge.pending\ndata: {}\n\n';
    assert.deepEqual(await run([stream(pending, true)], 2), ['open', 'look', 'look']);
});

test('listener polls if there is no stream', async () => {
    for (const status of [404, 405, 501, 503]) {
        const response = new Response('{}', { status, headers: { 'Content-Type': 'application/json' } });
        assert.deepEqual(await run([response], 2), ['open', 'look', 'look'], `${status}`);
    }
    assert.deepEqual(await run([], 2), ['open', 'look', 'look']);
    const page = new Response('<html>', { headers: { 'Content-Type': 'text/html' } });
    assert.deepEqual(await run([page], 2), ['open', 'look', 'look']);
});

test('refused stream is tried once more after a look, which corrects the clock', async () => {
    const refused = () => new Response('{}', { status: 401 });
    assert.deepEqual(await run([refused(), stream('', true)], 2), ['open', 'look', 'open', 'look']);
    assert.deepEqual(await run([refused(), refused()], 3, 5_000), ['open', 'look', 'open', 'look', 'look']);
});

test('end of a stream decides what happens next', async () => {
    const end = (why) => stream(`retry: 10\n\nevent: end\ndata: {"why":"${why}"}\n\n`);
    for (const [why, expected] of [
        ['draining', ['open', 'look', 'open', 'look']],
        ['max-age', ['open', 'look', 'open', 'look']],
        // A look finds that the factor was removed.
        ['gone', ['open', 'look', 'look']],
        ['unauthorized', ['open', 'look', 'look']],
        // Another page has taken the place of this one, so this one polls for a while.
        ['overload', ['open', 'look', 'look']],
    ]) {
        assert.deepEqual(await run([end(why), stream('', true)], 2), expected, why);
    }
});

test('listener stops at once when it is aborted', async () => {
    const began = performance.now();
    await run([stream('', true)], 99, 50);
    assert.ok(performance.now() - began < 1_000);
});
