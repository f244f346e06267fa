// Fetches the page again and puts its content in the place of what is there: the reader's place, what is unfolded and what is
// being selected stay as they are. Rests while nobody looks. Says so when the service does not answer.
(() => {
  'use strict';
  const EVERY = 10000, PATIENCE = 8000;
  const place = location.origin + location.pathname + location.search;
  const by = (id) => document.getElementById(id);
  const since = by('since'), stale = by('stale');
  const unfolded = new Map();
  let last = Date.now(), failed = '', busy = false, rests = false, timer = 0;

  const span = (ms) => {
    const s = Math.max(0, Math.round(ms / 1000));
    return s < 60 ? s + ' s' : s < 3600 ? Math.floor(s / 60) + ' min ' + s % 60 + ' s' : Math.floor(s / 3600) + ' h ' + Math.floor(s / 60) % 60 + ' min';
  };

  const button = document.createElement('button');
  button.type = 'button';
  const words = document.createElement('span');
  since.append(words, button);
  button.addEventListener('click', () => {
    rests = !rests;
    if (!rests) refresh();
    tell();
  });

  const isSelecting = () => {
    const selection = getSelection();
    return !!selection && !selection.isCollapsed && by('main').contains(selection.anchorNode);
  };

  function tell() {
    const age = Date.now() - last;
    words.textContent = ' · refreshed ' + span(age) + ' ago' + (isSelecting() ? ', holds still while you select ' : ' ');
    button.textContent = rests ? 'go on refreshing' : 'stop refreshing';
    const isOld = failed !== '' || (!rests && !isSelecting() && age > 3 * EVERY);
    document.body.classList.toggle('stale', isOld);
    stale.hidden = !isOld;
    const text = 'What you see is ' + span(age) + ' old: ' + (failed || 'it could not be refreshed') + '. It is tried again every ' + EVERY / 1000 + ' s.';
    if (isOld && stale.textContent !== text) stale.textContent = text;
  }

  function show(text) {
    const next = new DOMParser().parseFromString(text, 'text/html');
    const main = next.getElementById('main');
    if (!main || !next.querySelector('#fresh time')) throw new Error('the answer is another page');
    for (const [id, open] of unfolded) {
      const details = next.getElementById(id);
      if (details) details.open = open;
    }
    const [x, y, focused] = [scrollX, scrollY, document.activeElement && document.activeElement.id];
    by('main').replaceWith(document.adoptNode(main));
    document.querySelector('#fresh time').replaceWith(document.adoptNode(next.querySelector('#fresh time')));
    document.title = next.title;
    const icon = document.querySelector('link[rel=icon]'), newIcon = next.querySelector('link[rel=icon]');
    if (icon && newIcon && icon.href !== newIcon.href) icon.replaceWith(document.adoptNode(newIcon));
    if (focused && by(focused)) by(focused).focus({preventScroll: true});
    scrollTo({left: x, top: y, behavior: 'instant'});
  }

  async function refresh() {
    if (busy || rests || document.hidden || isSelecting()) return;
    busy = true;
    try {
      const answer = await fetch(place, {cache: 'no-store', credentials: 'same-origin', redirect: 'error', signal: AbortSignal.timeout(PATIENCE)});
      const text = await answer.text();
      if (!answer.ok) throw new Error('the service answers ' + answer.status);
      if (!isSelecting()) {
        show(text);
        last = Date.now();
      }
      failed = '';
    } catch (error) {
      failed = error instanceof Error && error.message.startsWith('the ') ? error.message : 'the service does not answer';
    }
    busy = false;
    tell();
  }

  document.addEventListener('click', (event) => {
    const summary = event.target instanceof Element && event.target.closest('summary');
    if (summary && summary.parentElement) unfolded.set(summary.parentElement.id, !summary.parentElement.open);
  });

  let ticks = 0;
  const tick = () => {
    ticks += 1;
    if (ticks % (EVERY / 1000) === 0) refresh();
    tell();
  };
  const watch = () => {
    clearInterval(timer);
    if (document.hidden) return;
    timer = setInterval(tick, 1000);
    if (Date.now() - last > EVERY) refresh();
    tell();
  };
  document.addEventListener('visibilitychange', watch);
  watch();
})();
