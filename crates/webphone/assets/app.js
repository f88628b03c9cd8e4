// @ts-check
/** The phone: which screen is shown, and what its buttons do. */

// First, so that the access token leaves the address bar before anything else happens.
import { takeFragment } from './fragment.js';
import { isLink, parseGrant, parsePasted } from './link.js';
import { FOREIGN_LINK, INSECURE, INVALID_LINK, UNSUPPORTED, enrollmentError, generalError } from './messages.js';
import { Phones } from './phones.js';
import { registerServiceWorker } from './registration.js';
import { Store } from './store.js';
import { browserName } from './text.js';
import * as view from './view.js';
import { ChangedError, Wire } from './wire.js';

/**
 * @typedef {import('./phones.js').Phone} Phone
 * @typedef {import('./wire.js').Challenge} Challenge
 * @typedef {import('./link.js').Grant} Grant
 */

/** How long the text of a request is shown until it can be answered, in milliseconds, against a tap by reflex. */
const READING_MS = 600;

/** Interval at which countdowns are updated, in milliseconds. */
const TICK_MS = 500;

/**
 * What is shown, and what it needs.
 * @typedef {{ name: 'home' }
 *     | { name: 'enroll', grant: Grant, draft: string }
 *     | { name: 'challenge', phone: Phone, challenge: Challenge, isReady?: boolean }
 *     | { name: 'deny', phone: Phone, challenge: Challenge }
 *     | { name: 'replace', phone: Phone }
 *     | { name: 'message', title: string, text: string }
 *     | { name: 'history', phone: Phone, challenges: Challenge[], next: string | null, isLoading: boolean }
 *     | { name: 'settings', phone: Phone, isConfirming: boolean }} Place
 */

class App {
    /** @type {Place} */
    #place = { name: 'home' };
    #error = '';
    #isBusy = false;
    #mayBeDeleted = false;
    #pendingCount = 0;
    #title = '';
    /** Whether the browser's Back leads to the home screen. */
    #isAboveHome = false;

    /**
     * @param {Phones} phones
     * @param {Wire} wire
     */
    constructor(phones, wire) {
        this.phones = phones;
        this.wire = wire;
    }

    async start() {
        history.replaceState(null, '', location.pathname);
        this.phones.addEventListener('change', () => this.#update());
        addEventListener('popstate', () => this.#goHome());
        addEventListener('hashchange', () => this.openLink(takeFragment()));
        addEventListener('online', () => this.phones.listen());
        addEventListener('offline', () => this.phones.listen());
        document.addEventListener('visibilitychange', () => this.#resume());
        setInterval(() => this.#tick(), TICK_MS);
        await this.phones.load();
        await this.#checkStorage();
        this.#render();
    }

    /**
     * Opens an enrollment link.
     * @param {string} fragment
     */
    openLink(fragment) {
        if (!isLink(fragment)) {
            return;
        }
        const grant = parseGrant(fragment);
        if (grant) {
            this.#enter({ name: 'enroll', grant, draft: browserName(navigator.userAgent) });
        } else {
            this.#enter({ name: 'home' }, INVALID_LINK);
        }
    }

    async #checkStorage() {
        const isInstalled = matchMedia('(display-mode: standalone)').matches;
        this.#mayBeDeleted = !isInstalled && !(await navigator.storage?.persisted?.());
    }

    /** The page was hidden or is visible again. */
    #resume() {
        this.phones.listen();
        if (!document.hidden && this.#place.name === 'challenge') {
            // The text is shown anew.
            this.#enter(this.#place);
        }
    }

    /**
     * Goes to a screen from which the browser's Back leads to the home screen.
     * @param {Place} place
     */
    #open(place) {
        if (!this.#isAboveHome) {
            history.pushState(null, '', location.pathname);
            this.#isAboveHome = true;
        }
        this.#enter(place);
    }

    /** Leaves a screen for the home screen, in the same way as the browser's Back. */
    #close() {
        if (this.#isAboveHome) {
            history.back();
        } else {
            this.#goHome();
        }
    }

    #goHome() {
        this.#isAboveHome = false;
        this.#enter({ name: 'home' });
    }

    /**
     * Shows another screen, or the same one for another reason, and tells screen readers.
     * @param {Place} place
     * @param {string} [error]
     */
    #enter(place, error = '') {
        if (place.name === 'challenge') {
            place.isReady = false;
        }
        this.#place = place;
        this.#error = error;
        this.#isBusy = false;
        this.#render();
        const heading = /** @type {HTMLElement} */ (document.querySelector('h1'));
        heading.focus({ preventScroll: true });
        scrollTo(0, 0);
        if (place.name === 'challenge') {
            setTimeout(() => this.#makeReady(place), READING_MS);
        }
    }

    /** @param {Place} place the screen whose buttons may be used now */
    #makeReady(place) {
        if (this.#place === place && place.name === 'challenge') {
            place.isReady = true;
            this.#render();
        }
    }

    /** Shows what has changed on a phone. */
    #update() {
        const place = this.#place;
        this.#announceRequests();
        if (place.name === 'challenge' || place.name === 'deny') {
            const { phone, challenge } = place;
            const isPending = phone.pending.some(({ sid }) => sid === challenge.sid);
            if (phone.state === 'online' && !isPending && !this.#isBusy) {
                this.#showOutcome(phone, challenge);
            } else if (phone.state === 'removed') {
                this.#close();
            }
        } else if (place.name === 'home') {
            this.#render();
        }
    }

    /** Says in the live region and in the title how many requests there are. */
    #announceRequests() {
        const count = this.phones.all.reduce((sum, { pending }) => sum + pending.length, 0);
        if (count > this.#pendingCount) {
            say(count === 1 ? 'One request.' : `${count} requests.`);
        }
        this.#pendingCount = count;
        this.#setTitle();
        // @ts-ignore: not in every browser
        navigator.setAppBadge?.(count).catch(() => {});
    }

    #tick() {
        const isOver = view.updateCountdowns(this.wire.now());
        const place = this.#place;
        if (!isOver || this.#isBusy) {
            return;
        }
        if (place.name === 'challenge') {
            this.#enter({ name: 'message', ...outcome('expired', false) });
        } else if (place.name === 'home') {
            for (const phone of this.phones.all) {
                phone.pending = phone.pending.filter(
                    ({ expiration_date }) => Date.parse(expiration_date) / 1000 > this.wire.now(),
                );
            }
            this.#update();
        }
    }

    /** @param {string} text */
    #paste(text) {
        const grant = parsePasted(text, location.href);
        if (typeof grant === 'object') {
            this.#open({ name: 'enroll', grant, draft: browserName(navigator.userAgent) });
        } else {
            this.#enter({ name: 'home' }, grant === 'foreign' ? FOREIGN_LINK : INVALID_LINK);
        }
    }

    /**
     * Does what a button is for. Meanwhile the buttons are off; a failure is shown on the screen.
     * @param {() => Promise<Place | void>} action returns the next screen
     * @param {(error: unknown) => string} [explain]
     */
    async #run(action, explain = generalError) {
        const place = this.#place;
        this.#isBusy = true;
        this.#error = '';
        this.#render();
        try {
            const next = await action();
            if (this.#place === place) {
                next ? this.#open(next) : this.#enter(place);
            }
        } catch (error) {
            if (this.#place === place) {
                this.#enter(place, explain(error));
            }
        } finally {
            this.#isBusy = false;
        }
    }

    /**
     * @param {Grant} grant
     * @param {string} name
     */
    #enroll(grant, name) {
        const place = this.#place;
        if (place.name === 'enroll') {
            place.draft = name;
        }
        return this.#run(async () => {
            await navigator.storage?.persist?.();
            const phone = await this.phones.enroll(grant, name);
            await this.#checkStorage();
            if (this.phones.earlier(phone).length > 0) {
                return { name: 'replace', phone };
            }
            return { name: 'message', title: 'Enrolled', text: 'This browser now receives requests. Keep this page open or bookmark it.' };
        }, enrollmentError);
    }

    /**
     * @param {Phone} phone
     * @returns {Promise<Place>}
     */
    async #removeEarlier(phone) {
        for (const earlier of this.phones.earlier(phone)) {
            await this.phones.remove(earlier);
        }
        return { name: 'message', title: 'Removed', text: 'Requests now go to the new enrollment.' };
    }

    /**
     * Opens a request, as the server has it now.
     * @param {Phone} phone
     * @param {Challenge} challenge
     */
    #openChallenge(phone, challenge) {
        return this.#run(async () => {
            const current = await this.phones.challenge(phone, challenge.sid);
            return current.status === 'pending'
                ? { name: 'challenge', phone, challenge: current }
                : { name: 'message', ...outcome(current.status, false) };
        });
    }

    /**
     * @param {Phone} phone
     * @param {Challenge} challenge
     * @param {'approved' | 'denied'} status
     * @param {Record<string, string>} [metadata]
     */
    async #answer(phone, challenge, status, metadata) {
        const place = this.#place;
        await this.#run(async () => {
            try {
                const { challenge: current, isAnswered } = await this.phones.answer(phone, challenge, status, metadata);
                return { name: 'message', ...outcome(current.status, isAnswered) };
            } catch (error) {
                if (error instanceof ChangedError && 'challenge' in place) {
                    place.challenge = await this.phones.challenge(phone, challenge.sid);
                }
                throw error;
            }
        });
    }

    /**
     * Shows what has become of a request that is not pending anymore.
     * @param {Phone} phone
     * @param {Challenge} challenge
     */
    async #showOutcome(phone, challenge) {
        const place = this.#place;
        // After a failure, the next look tries again.
        const { status } = await this.phones.challenge(phone, challenge.sid).catch(() => challenge);
        if (status !== 'pending' && this.#place === place && !this.#isBusy) {
            this.#enter({ name: 'message', ...outcome(status, false) });
        }
    }

    /** @param {Phone} phone */
    #openHistory(phone) {
        this.#open({ name: 'history', phone, challenges: [], next: null, isLoading: true });
        return this.#readHistory();
    }

    async #readHistory() {
        const place = this.#place;
        if (place.name !== 'history') {
            return;
        }
        place.isLoading = true;
        this.#render();
        try {
            const { challenges, nextPageToken } = await this.phones.history(place.phone, place.next ?? undefined);
            place.challenges.push(...challenges);
            place.next = nextPageToken;
            this.#error = '';
        } catch (error) {
            this.#error = generalError(error);
        }
        place.isLoading = false;
        if (this.#place === place) {
            this.#render();
        }
    }

    /** @returns {view.Screen} */
    #screen() {
        const place = this.#place;
        const [error, isBusy, now] = [this.#error, this.#isBusy, this.wire.now()];
        const back = () => this.#close();
        switch (place.name) {
            case 'home':
                return view.homeScreen({
                    phones: this.phones.all,
                    now,
                    error,
                    mayBeDeleted: this.#mayBeDeleted,
                    actions: {
                        open: (phone, challenge) => this.#openChallenge(phone, challenge),
                        history: (phone) => this.#openHistory(phone),
                        settings: (phone) => this.#open({ name: 'settings', phone, isConfirming: false }),
                        forget: (phone) => this.#run(() => this.phones.forget(phone)),
                        paste: (text) => this.#paste(text),
                    },
                });
            case 'enroll':
                return view.enrollScreen({
                    identity: place.grant.identity,
                    name: place.draft,
                    error,
                    isBusy,
                    actions: {
                        enroll: (name) => this.#enroll(place.grant, name),
                        cancel: back,
                    },
                });
            case 'replace':
                return view.replaceScreen({
                    phone: place.phone,
                    earlier: this.phones.earlier(place.phone),
                    error,
                    isBusy,
                    actions: {
                        remove: () => this.#run(() => this.#removeEarlier(place.phone)),
                        keep: back,
                    },
                });
            case 'challenge': {
                const { phone, challenge, isReady } = place;
                return view.challengeScreen({
                    phone,
                    challenge,
                    now,
                    error,
                    isReady: isReady === true && !isBusy,
                    actions: {
                        approve: () => this.#answer(phone, challenge, 'approved'),
                        deny: () => this.#enter({ name: 'deny', phone, challenge }),
                        back,
                    },
                });
            }
            case 'deny': {
                const { phone, challenge } = place;
                return view.denyScreen({
                    challenge,
                    error,
                    isBusy,
                    actions: {
                        notMe: () => this.#answer(phone, challenge, 'denied', { reason: 'not_me' }),
                        me: () => this.#answer(phone, challenge, 'denied'),
                        back: () => this.#enter({ name: 'challenge', phone, challenge }),
                    },
                });
            }
            case 'message':
                return view.messageScreen(place.title, place.text, back);
            case 'history': {
                const { phone, challenges, isLoading, next } = place;
                const actions = { more: () => this.#readHistory(), back };
                return view.historyScreen({ phone, challenges, isLoading, error, hasMore: next !== null, actions });
            }
            case 'settings': {
                const { phone, isConfirming } = place;
                return view.settingsScreen({
                    phone,
                    error,
                    isBusy,
                    isConfirming,
                    actions: {
                        rename: (name) => this.#run(() => this.phones.rename(phone, name)),
                        ask: () => this.#enter({ name: 'settings', phone, isConfirming: true }),
                        keep: () => this.#enter({ name: 'settings', phone, isConfirming: false }),
                        remove: () =>
                            this.#run(async () => {
                                await this.phones.remove(phone);
                                return { name: 'message', title: 'Removed', text: 'The key is deleted.' };
                            }),
                        back,
                    },
                });
            }
        }
    }

    #setTitle() {
        const count = this.#pendingCount > 0 ? `(${this.#pendingCount}) ` : '';
        document.title = count + this.#title;
    }

    /** Replaces the elements of the screen. What the user has typed, opened and focused stays. */
    #render() {
        const focused = document.activeElement?.id;
        const isOpen = /** @type {HTMLDetailsElement | null} */ (document.getElementById('add'))?.open;
        const typed = /** @type {HTMLInputElement | null} */ (document.getElementById('link'))?.value;
        const screen = this.#screen();
        this.#title = screen.title;
        this.#setTitle();
        render(screen);
        const added = /** @type {HTMLDetailsElement | null} */ (document.getElementById('add'));
        if (added && isOpen) {
            added.open = true;
        }
        const link = /** @type {HTMLInputElement | null} */ (document.getElementById('link'));
        if (link && typed) {
            link.value = typed;
        }
        if (focused) {
            document.getElementById(focused)?.focus({ preventScroll: true });
        }
    }
}

/**
 * Returns what to say about a request that was answered or has expired.
 * @param {Challenge['status']} status
 * @param {boolean} isAnsweredHere
 */
function outcome(status, isAnsweredHere) {
    const elsewhere = isAnsweredHere ? '' : ' It was answered in another window or on another device.';
    switch (status) {
        case 'approved':
            return { title: 'Approved', text: `The request is approved.${elsewhere}` };
        case 'denied':
            return { title: 'Denied', text: `The request is denied.${elsewhere}` };
        default:
            return { title: 'Expired', text: 'The request has expired. Start again where you were asked.' };
    }
}

/** @param {view.Screen} screen */
function render({ heading, content }) {
    const main = /** @type {HTMLElement} */ (document.querySelector('main'));
    const children = [view.element('h1', { id: 'heading', tabindex: '-1' }, ...heading), ...content];
    main.replaceChildren(.../** @type {(Node | string)[]} */ (children.filter(Boolean)));
}

/**
 * Says something to screen readers.
 * @param {string} text
 */
function say(text) {
    const region = /** @type {HTMLElement} */ (document.getElementById('live'));
    region.textContent = text;
}

async function main() {
    const fragment = takeFragment();
    if (!isSecureContext) {
        render(view.messageScreen('HTTPS needed', INSECURE));
        return;
    }
    let store;
    try {
        store = await Store.open();
    } catch {
        render(view.messageScreen('This browser cannot be used', UNSUPPORTED));
        return;
    }
    const wire = new Wire(new URL('../', import.meta.url));
    const app = new App(new Phones(wire, store), wire);
    await app.start();
    app.openLink(fragment);
    await registerServiceWorker();
}

main();
