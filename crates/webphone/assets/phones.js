// @ts-check
/** The enrollments of this browser at run time: what each of them was asked, and whether the server responds. */

import { generateKeyPair } from './keys.js';
import { listen, pause } from './stream.js';
import { OfflineError, RemovedError } from './wire.js';

/** Maximum number of streams of one page. A browser opens six connections to a server, and requests need some too. */
const MAX_STREAMS = 2;

/** Interval at which a page in the background looks for requests, in milliseconds. */
const BACKGROUND_POLL_MS = 30_000;

/**
 * @typedef {import('./wire.js').Enrollment} Enrollment
 * @typedef {import('./wire.js').Challenge} Challenge
 */

/**
 * An enrollment and what is known about it.
 * @typedef {object} Phone
 * @property {Enrollment} enrollment
 * @property {Challenge[]} pending the newest first; while the server does not respond, the last known ones
 * @property {'connecting' | 'online' | 'offline' | 'removed'} state
 */

/** Dispatches `change` whenever a phone has changed. */
export class Phones extends EventTarget {
    /** @type {Map<string, Phone>} */
    #phones = new Map();
    #listening = new AbortController();
    #channel = new BroadcastChannel('countersign-phone');
    /** @type {{ grant: import('./link.js').Grant, keyPair: CryptoKeyPair } | null} */
    #unfinished = null;

    /**
     * @param {import('./wire.js').Wire} wire
     * @param {import('./store.js').Store} store
     */
    constructor(wire, store) {
        super();
        this.wire = wire;
        this.store = store;
        // Another window has answered, enrolled or removed something.
        this.#channel.onmessage = () => this.load();
    }

    /** All phones, the oldest first. */
    get all() {
        return [...this.#phones.values()];
    }

    /** @param {string} factorSid */
    find(factorSid) {
        return this.#phones.get(factorSid);
    }

    /** Reads the enrollments, and listens for their challenges. */
    async load() {
        const known = this.#phones;
        const enrollments = await this.store.enrollments();
        this.#phones = new Map(
            enrollments.map((enrollment) => {
                // The same object as before, because a screen may show it.
                const phone = known.get(enrollment.factorSid) ?? { pending: [], state: 'connecting' };
                return [enrollment.factorSid, Object.assign(phone, { enrollment })];
            }),
        );
        this.#changed();
        this.listen();
    }

    /** Listens for challenges from now on: on streams while the page is visible, else by looking now and then. */
    listen() {
        this.#listening.abort();
        this.#listening = new AbortController();
        const { signal } = this.#listening;
        const present = this.all.filter(({ state }) => state !== 'removed');
        for (const [index, { enrollment }] of present.entries()) {
            const look = () => this.#look(enrollment.factorSid);
            if (document.hidden) {
                this.#lookInBackground(look, signal);
            } else if (index < MAX_STREAMS) {
                const open = (/** @type {AbortSignal} */ until) => this.wire.openStream(enrollment, until);
                listen({ look, open }, signal);
            } else {
                listen({ look }, signal);
            }
        }
    }

    /**
     * @param {() => Promise<boolean>} look
     * @param {AbortSignal} signal
     */
    async #lookInBackground(look, signal) {
        while (!signal.aborted) {
            await look();
            await pause(BACKGROUND_POLL_MS, signal);
        }
    }

    /**
     * Reads the pending challenges of a factor. Returns whether they have changed.
     * @param {string} factorSid
     */
    async #look(factorSid) {
        const phone = this.#phones.get(factorSid);
        if (!phone || phone.state === 'removed') {
            return false;
        }
        const before = fingerprint(phone);
        try {
            await this.#finish(phone);
            const { challenges } = await this.wire.listChallenges(phone.enrollment, { status: 'pending' });
            phone.pending = challenges;
            phone.state = 'online';
        } catch (error) {
            this.#note(phone, error);
        }
        const hasChanged = fingerprint(phone) !== before;
        if (hasChanged) {
            this.#changed();
        }
        return hasChanged;
    }

    /**
     * Verifies the factor, unless that was done.
     * @param {Phone} phone
     */
    async #finish(phone) {
        if (!phone.enrollment.isVerified) {
            phone.enrollment = await this.wire.verifyFactor(phone.enrollment);
            await this.store.put(phone.enrollment);
        }
    }

    /**
     * Notes what an error says about a phone.
     * @param {Phone} phone
     * @param {unknown} error
     */
    #note(phone, error) {
        if (error instanceof RemovedError) {
            phone.state = 'removed';
            phone.pending = [];
        } else {
            phone.state = 'offline';
        }
        if (!(error instanceof RemovedError || error instanceof OfflineError)) {
            console.warn('cannot read the requests:', String(error));
        }
    }

    /**
     * Enrolls this browser. After a lost response, a second call with the same grant uses the same key.
     * @param {import('./link.js').Grant} grant
     * @param {string} name
     * @returns {Promise<Phone>}
     */
    async enroll(grant, name) {
        const unfinished = this.#unfinished?.grant.token === grant.token ? this.#unfinished : null;
        const keyPair = unfinished?.keyPair ?? (await generateKeyPair());
        await this.store.requireKeys(keyPair.privateKey);
        this.#unfinished = { grant, keyPair };
        let enrollment = await this.wire.createFactor(grant, keyPair, name);
        this.#unfinished = null;
        // Before the second request, so that the key is not lost if that one fails.
        await this.store.put(enrollment);
        try {
            enrollment = await this.wire.verifyFactor(enrollment);
            await this.store.put(enrollment);
        } catch (error) {
            // Without a response, the next look verifies the factor.
            if (!(error instanceof OfflineError)) {
                throw error;
            }
        } finally {
            await this.load();
            this.#announce();
        }
        return /** @type {Phone} */ (this.find(enrollment.factorSid));
    }

    /**
     * Returns the phones that this browser enrolled for the same user before.
     * @param {Phone} phone
     */
    earlier({ enrollment: { factorSid, serviceSid, identity } }) {
        return this.all.filter(
            ({ enrollment, state }) =>
                state !== 'removed' &&
                enrollment.factorSid !== factorSid &&
                enrollment.serviceSid === serviceSid &&
                enrollment.identity === identity,
        );
    }

    /**
     * Answers a challenge. Of several windows, one answers at a time.
     * @param {Phone} phone
     * @param {Challenge} shown
     * @param {'approved' | 'denied'} status
     * @param {Record<string, string>} [metadata]
     */
    async answer(phone, shown, status, metadata) {
        const send = () => this.wire.answer(phone.enrollment, shown, status, metadata);
        try {
            return await this.#withPhone(phone, () =>
                navigator.locks ? navigator.locks.request(`answer:${shown.sid}`, send) : send(),
            );
        } finally {
            this.#look(phone.enrollment.factorSid);
            this.#announce();
        }
    }

    /**
     * Returns a challenge as it is now.
     * @param {Phone} phone
     * @param {string} sid
     */
    challenge(phone, sid) {
        return this.#withPhone(phone, () => this.wire.getChallenge(phone.enrollment, sid));
    }

    /**
     * Returns a page of all challenges, the newest first.
     * @param {Phone} phone
     * @param {string} [pageToken]
     */
    history(phone, pageToken) {
        return this.#withPhone(phone, () => this.wire.listChallenges(phone.enrollment, { pageToken }));
    }

    /**
     * @param {Phone} phone
     * @param {string} name
     */
    async rename(phone, name) {
        await this.#withPhone(phone, async () => {
            await this.store.put(await this.wire.renameFactor(phone.enrollment, name));
        });
        await this.load();
        this.#announce();
    }

    /**
     * Deletes the factor on the server, then the key.
     * @param {Phone} phone
     */
    async remove(phone) {
        await this.wire.deleteFactor(phone.enrollment);
        await this.forget(phone);
    }

    /**
     * Deletes the key, and leaves the server as it is.
     * @param {Phone} phone
     */
    async forget(phone) {
        await this.store.remove(phone.enrollment.factorSid);
        await this.load();
        this.#announce();
    }

    /**
     * Does something with a phone, and notes what a failure says about it.
     * @template T
     * @param {Phone} phone
     * @param {() => Promise<T>} action
     * @returns {Promise<T>}
     */
    async #withPhone(phone, action) {
        try {
            return await action();
        } catch (error) {
            if (error instanceof RemovedError || error instanceof OfflineError) {
                this.#note(phone, error);
                this.#changed();
            }
            throw error;
        }
    }

    #announce() {
        this.#channel.postMessage('changed');
    }

    #changed() {
        this.dispatchEvent(new Event('change'));
    }
}

/**
 * Returns what the home screen shows of a phone, for comparison.
 * @param {Phone} phone
 */
function fingerprint({ state, pending, enrollment }) {
    return [state, enrollment.isVerified, ...pending.map(({ sid }) => sid)].join();
}
