// @ts-check
/** The screens. Each function returns elements; text of strangers only ever becomes text. */

import { splitHidden, timeLeft } from './text.js';

/**
 * @typedef {import('./phones.js').Phone} Phone
 * @typedef {import('./wire.js').Challenge} Challenge
 * @typedef {Node | string | null | false | undefined} Child
 */

/**
 * A screen: its title, and its elements below the heading.
 * @typedef {object} Screen
 * @property {string} title of the window, without text of strangers
 * @property {Child[]} heading
 * @property {Child[]} content
 */

/** Fields whose value the user compares or types, in lower case. They are shown large. */
const LARGE_FIELDS = ['code', 'number'];

const STATUS_NAMES = { pending: 'Pending', approved: 'Approved', denied: 'Denied', expired: 'Expired' };

/**
 * Returns a new element.
 * @param {string} tag
 * @param {Record<string, string | boolean | ((event: Event) => void)>} attributes a function handles an event, and
 *     `true` is an attribute without a value
 * @param {...Child} children
 */
export function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (typeof value === 'function') {
            made.addEventListener(name, value);
        } else if (value !== false) {
            made.setAttribute(name, value === true ? '' : value);
        }
    }
    made.append(.../** @type {(Node | string)[]} */ (children.filter(Boolean)));
    return made;
}

/**
 * Returns a text of strangers: apart from the direction of the text around it, and with marks for hidden characters.
 * @param {string} text
 */
export function foreign(text) {
    const parts = splitHidden(text).map((part) =>
        'text' in part
            ? part.text
            : element('span', { class: 'mark', role: 'img', 'aria-label': `hidden character ${part.mark}` }, part.mark),
    );
    return element('bdi', {}, ...parts);
}

/**
 * @param {string} label
 * @param {(event: Event) => void} click
 * @param {Record<string, string | boolean>} [attributes]
 */
function button(label, click, attributes = {}) {
    return element('button', { type: 'button', click, ...attributes }, label);
}

/** @param {string} text */
export function alertText(text) {
    return element('p', { class: 'alert', role: 'alert' }, text);
}

/** @param {() => void} back */
function backButton(back) {
    return button('Back', back, { id: 'back', class: 'quiet' });
}

/**
 * A screen with one message.
 * @param {string} title
 * @param {string} text
 * @param {() => void} [done]
 * @returns {Screen}
 */
export function messageScreen(title, text, done) {
    const content = [element('p', {}, text), done && button('Done', done, { id: 'done', class: 'primary' })];
    return { title, heading: [title], content };
}

/**
 * What the user may do on the home screen.
 * @typedef {object} HomeActions
 * @property {(phone: Phone, challenge: Challenge) => void} open
 * @property {(phone: Phone) => void} history
 * @property {(phone: Phone) => void} settings
 * @property {(phone: Phone) => void} forget
 * @property {(text: string) => void} paste
 */

/**
 * @param {{ phones: Phone[], now: number, error: string, mayBeDeleted: boolean, actions: HomeActions }} home
 *     `mayBeDeleted` is whether the browser may delete the keys by itself
 * @returns {Screen}
 */
export function homeScreen({ phones, now, error, mayBeDeleted, actions }) {
    const enrolled = phones.length > 0;
    return {
        title: 'Countersign phone',
        heading: [enrolled ? 'Your enrollments' : 'Enroll this browser'],
        content: [
            error && alertText(error),
            ...phones.map((phone) => phoneCard(phone, now, actions)),
            enrolled
                ? element('details', { id: 'add' }, element('summary', {}, 'Add an enrollment'), pasteForm(actions))
                : pasteForm(actions),
            enrolled &&
                mayBeDeleted &&
                element(
                    'p',
                    { class: 'hint' },
                    'This browser may delete the keys of pages that you do not visit for a while. ',
                    'To keep them, add this page to the home screen, or bookmark it and allow it to store data.',
                ),
        ],
    };
}

/**
 * @param {Phone} phone
 * @param {number} now
 * @param {HomeActions} actions
 */
function phoneCard(phone, now, actions) {
    const { enrollment, state } = phone;
    const [name, identity] = [`name-${enrollment.factorSid}`, `identity-${enrollment.factorSid}`];
    const heading = [
        element('h2', { id: name }, foreign(enrollment.name)),
        element('p', { id: identity, class: 'identity' }, foreign(enrollment.identity)),
    ];
    // Several enrollments may have the same name.
    const label = `${name} ${identity}`;
    if (state === 'removed') {
        const forget = button('Forget', () => actions.forget(phone), { id: `forget-${enrollment.factorSid}` });
        const text = 'This phone was removed. It cannot answer anymore; ask for a new code to enroll it again.';
        return element('section', { class: 'card', 'aria-labelledby': label }, ...heading, alertText(text), forget);
    }
    return element(
        'section',
        { class: `card ${state}`, 'aria-labelledby': label },
        ...heading,
        element('p', { class: `state ${state}` }, stateText(phone)),
        requestList(phone, now, actions),
        element(
            'p',
            { class: 'links' },
            button('History', () => actions.history(phone), { id: `history-${enrollment.factorSid}`, class: 'quiet' }),
            button('Settings', () => actions.settings(phone), {
                id: `settings-${enrollment.factorSid}`,
                class: 'quiet',
            }),
        ),
    );
}

/** @param {Phone} phone */
function stateText({ state, pending, enrollment }) {
    if (state === 'offline') {
        return pending.length > 0 ? 'Offline. These are the last known requests.' : 'Offline. Trying again.';
    }
    if (state === 'connecting') {
        return 'Connecting';
    }
    return enrollment.isVerified ? 'Connected' : 'Finishing the enrollment';
}

/**
 * @param {Phone} phone
 * @param {number} now
 * @param {HomeActions} actions
 */
function requestList(phone, now, actions) {
    if (phone.pending.length === 0) {
        return phone.state === 'online' && element('p', { class: 'empty' }, 'No requests.');
    }
    const items = phone.pending.map((challenge) =>
        element(
            'li',
            {},
            element(
                'button',
                {
                    type: 'button',
                    class: 'request',
                    id: challenge.sid,
                    disabled: phone.state === 'offline',
                    click: () => actions.open(phone, challenge),
                },
                foreign(challenge.details.message),
                countdown(challenge, now),
            ),
        ),
    );
    return element('ul', { class: 'requests' }, ...items);
}

/**
 * Returns the time left, which `updateCountdowns` updates.
 * @param {Challenge} challenge
 * @param {number} now the server's time, in seconds
 */
function countdown(challenge, now) {
    const end = Date.parse(challenge.expiration_date) / 1000;
    return element('span', { class: 'countdown', role: 'timer', 'data-end': String(end) }, timeLeft(end - now));
}

/**
 * Updates all countdowns on the page. Returns whether one has reached zero.
 * @param {number} now the server's time, in seconds
 */
export function updateCountdowns(now) {
    let isOver = false;
    for (const shown of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('.countdown'))) {
        const left = Number(shown.dataset.end) - now;
        shown.textContent = timeLeft(left);
        isOver ||= left <= 0;
    }
    return isOver;
}

/** @param {HomeActions} actions */
function pasteForm({ paste }) {
    const input = /** @type {HTMLInputElement} */ (
        element('input', { id: 'link', name: 'link', type: 'text', autocomplete: 'off', spellcheck: 'false', required: true })
    );
    return element(
        'form',
        {
            submit: (event) => {
                event.preventDefault();
                paste(input.value);
            },
        },
        element('p', {}, 'Scan the QR code that you were shown with the camera of your phone, or paste its link here.'),
        element('label', { for: 'link' }, 'Enrollment link'),
        input,
        element('button', { type: 'submit', id: 'paste', class: 'primary' }, 'Continue'),
    );
}

/**
 * @param {{ identity: string, name: string, error: string, isBusy: boolean,
 *     actions: { enroll: (name: string) => void, cancel: () => void } }} enrollment
 * @returns {Screen}
 */
export function enrollScreen({ identity, name, error, isBusy, actions }) {
    const input = /** @type {HTMLInputElement} */ (
        element('input', { id: 'name', name: 'name', type: 'text', maxlength: '64', autocomplete: 'off', required: true })
    );
    input.value = name;
    const form = element(
        'form',
        {
            submit: (event) => {
                event.preventDefault();
                actions.enroll(input.value.trim() || name);
            },
        },
        element('label', { for: 'name' }, 'Name of this enrollment'),
        input,
        element('button', { type: 'submit', id: 'enroll', class: 'primary', disabled: isBusy }, 'Enroll'),
        button('Cancel', actions.cancel, { id: 'cancel', class: 'quiet', disabled: isBusy }),
    );
    return {
        title: 'Enroll this browser',
        heading: ['Enroll this browser'],
        content: [
            error && alertText(error),
            element('p', {}, 'This browser will answer requests for the user ', foreign(identity), '.'),
            element('p', {}, 'It makes a key that cannot leave it. Enroll only browsers that are yours.'),
            form,
        ],
    };
}

/**
 * @param {{ phone: Phone, challenge: Challenge, now: number, error: string, isReady: boolean,
 *     actions: { approve: () => void, deny: () => void, back: () => void } }} request
 *     `isReady` is whether the user may answer yet
 * @returns {Screen}
 */
export function challengeScreen({ phone, challenge, now, error, isReady, actions }) {
    const { message, fields, date } = challenge.details;
    return {
        title: 'Request',
        heading: [foreign(message)],
        content: [
            element('p', { class: 'from' }, foreign(phone.enrollment.name), ' · ', foreign(phone.enrollment.identity)),
            error && alertText(error),
            element(
                'dl',
                { class: 'fields' },
                ...(fields ?? []).flatMap(({ label, value }) => fieldRow(label, foreign(value))),
                ...(date ? fieldRow('Time', timeElement(date)) : []),
            ),
            element('p', {}, 'Ends in ', countdown(challenge, now)),
            element(
                'p',
                { class: 'answers' },
                button('Deny', actions.deny, { id: 'deny', class: 'danger', disabled: !isReady }),
                button('Approve', actions.approve, { id: 'approve', class: 'primary', disabled: !isReady }),
            ),
            backButton(actions.back),
        ],
    };
}

/**
 * @param {string} label
 * @param {Node} value
 */
function fieldRow(label, value) {
    const isLarge = LARGE_FIELDS.includes(label.trim().toLowerCase());
    return [element('dt', {}, foreign(label)), element('dd', { class: isLarge && 'large' }, value)];
}

/** @param {string} instant */
function timeElement(instant) {
    return element('time', { datetime: instant }, new Date(instant).toLocaleString());
}

/**
 * Offers to remove what this browser had enrolled for the same user before.
 * @param {{ phone: Phone, earlier: Phone[], error: string, isBusy: boolean,
 *     actions: { remove: () => void, keep: () => void } }} offer
 * @returns {Screen}
 */
export function replaceScreen({ phone, earlier, error, isBusy, actions }) {
    const names = earlier.flatMap(({ enrollment }, index) => [index > 0 && ', ', foreign(enrollment.name)]);
    const [removal, keeping] = earlier.length > 1 ? ['Remove the earlier ones', 'Keep all'] : ['Remove the earlier one', 'Keep both'];
    return {
        title: 'Enrolled',
        heading: ['Enrolled'],
        content: [
            error && alertText(error),
            element(
                'p',
                {},
                'This browser now receives requests. It was enrolled for ',
                foreign(phone.enrollment.identity),
                ' before, as ',
                ...names,
                '. One enrollment is enough.',
            ),
            element(
                'p',
                { class: 'answers' },
                button(removal, actions.remove, { id: 'replace', class: 'primary', disabled: isBusy }),
                button(keeping, actions.keep, { id: 'keep', disabled: isBusy }),
            ),
        ],
    };
}

/**
 * @param {{ challenge: Challenge, error: string, isBusy: boolean,
 *     actions: { notMe: () => void, me: () => void, back: () => void } }} denial
 * @returns {Screen}
 */
export function denyScreen({ challenge, error, isBusy, actions }) {
    return {
        title: 'Was that you?',
        heading: ['Was that you?'],
        content: [
            error && alertText(error),
            element('p', {}, 'You deny: ', foreign(challenge.details.message)),
            element('p', {}, 'If it was not you, someone else may know your password. Your answer tells the service.'),
            element(
                'p',
                { class: 'answers' },
                button('It was not me', actions.notMe, { id: 'not-me', class: 'danger', disabled: isBusy }),
                button('It was me', actions.me, { id: 'me', disabled: isBusy }),
            ),
            backButton(actions.back),
        ],
    };
}

/**
 * @param {{ phone: Phone, challenges: Challenge[], isLoading: boolean, error: string, hasMore: boolean,
 *     actions: { more: () => void, back: () => void } }} history
 * @returns {Screen}
 */
export function historyScreen({ phone, challenges, isLoading, error, hasMore, actions }) {
    const rows = challenges.map((challenge) =>
        element(
            'li',
            { class: `past ${challenge.status}` },
            element('span', { class: 'message' }, foreign(challenge.details.message)),
            element(
                'span',
                { class: 'outcome' },
                `${STATUS_NAMES[challenge.status] ?? challenge.status} · `,
                timeElement(challenge.date_responded ?? challenge.date_created),
            ),
        ),
    );
    return {
        title: 'History',
        heading: ['History'],
        content: [
            element('p', { class: 'from' }, foreign(phone.enrollment.name), ' · ', foreign(phone.enrollment.identity)),
            error && alertText(error),
            rows.length > 0 && element('ul', { class: 'history' }, ...rows),
            isLoading && element('p', { class: 'empty' }, 'Loading'),
            !isLoading && rows.length === 0 && !error && element('p', { class: 'empty' }, 'No requests yet.'),
            hasMore && button('Older', actions.more, { id: 'more', disabled: isLoading }),
            backButton(actions.back),
        ],
    };
}

/**
 * @param {{ phone: Phone, error: string, isBusy: boolean, isConfirming: boolean, actions: {
 *     rename: (name: string) => void, ask: () => void, remove: () => void, keep: () => void, back: () => void } }} settings
 *     `isConfirming` is whether to ask before the phone is removed
 * @returns {Screen}
 */
export function settingsScreen({ phone, error, isBusy, isConfirming, actions }) {
    const { enrollment } = phone;
    const input = /** @type {HTMLInputElement} */ (
        element('input', { id: 'name', name: 'name', type: 'text', maxlength: '64', autocomplete: 'off', required: true })
    );
    input.value = enrollment.name;
    const rename = element(
        'form',
        {
            submit: (event) => {
                event.preventDefault();
                actions.rename(input.value.trim());
            },
        },
        element('label', { for: 'name' }, 'Name of this enrollment'),
        input,
        element('button', { type: 'submit', id: 'rename', disabled: isBusy }, 'Save'),
    );
    const removal = isConfirming
        ? element(
              'div',
              { class: 'confirm', role: 'group', 'aria-label': 'Remove this phone' },
              element('p', {}, 'The key is deleted here and on the server. This cannot be undone.'),
              element(
                  'p',
                  { class: 'answers' },
                  button('Keep', actions.keep, { id: 'keep', disabled: isBusy }),
                  button('Remove', actions.remove, { id: 'remove', class: 'danger', disabled: isBusy }),
              ),
          )
        : button('Remove this phone', actions.ask, { id: 'ask-remove', class: 'danger' });
    /** @type {[string, Child][]} */
    const facts = [
        ['User', foreign(enrollment.identity)],
        ['Service', foreign(enrollment.serviceSid)],
        ['Factor', foreign(enrollment.factorSid)],
        ['Enrolled', timeElement(enrollment.createdAt)],
    ];
    return {
        title: 'Settings',
        heading: ['Settings'],
        content: [
            error && alertText(error),
            rename,
            element(
                'dl',
                { class: 'facts' },
                ...facts.flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, value)]),
            ),
            removal,
            backButton(actions.back),
        ],
    };
}
