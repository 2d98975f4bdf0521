#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *checked_realloc(void *old, size_t bytes) {
    void *fresh = realloc(old, bytes ? bytes : 1);
    if (!fresh) {
        complain("out of memory");
        _exit(1);
    }
    return fresh;
}

char *checked_strdup(const char *string) {
    size_t bytes = strlen(string) + 1;
    return memcpy(checked_realloc(NULL, bytes), string, bytes);
}

static void reserve(struct text *text, size_t more) {
    size_t needed = text->length + more + 1;
    if (needed > text->capacity) {
        text->capacity = needed * 2;
        text->data = checked_realloc(text->data, text->capacity);
    }
}

void text_add(struct text *text, const void *bytes, size_t length) {
    reserve(text, length);
    if (length)
        memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = 0;
}

void text_format(struct text *text, const char *format, ...) {
    va_list arguments;
    char first[128]; /* mostly enough, and saves a second turn */
    va_start(arguments, format);
    size_t length = (size_t)vsnprintf(first, sizeof first, format, arguments);
    va_end(arguments);
    if (length < sizeof first) {
        text_add(text, first, length);
        return;
    }
    reserve(text, length);
    va_start(arguments, format);
    vsnprintf(text->data + text->length, length + 1, format, arguments);
    va_end(arguments);
    text->length += length;
}

/* The length of the UTF-8 character at `s`, 0 if there is none (RFC 3629: no overlong forms, no surrogates). */
static size_t utf8_length(const unsigned char *s, size_t left) {
    size_t length = s[0] < 0x80 ? 1 : s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : s[0] < 0xF5 ? 4 : 0;
    if (length > left)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF0 && s[1] < 0x90) ||
        (s[0] == 0xF4 && s[1] > 0x8F))
        return 0;
    return length;
}

void text_json(struct text *text, const char *bytes, size_t length) {
    const unsigned char *s = (const unsigned char *)bytes;
    text_add(text, "\"", 1);
    for (size_t i = 0; i < length;) {
        size_t whole = utf8_length(s + i, length - i);
        if (!whole)
            text_format(text, "\\udc%02x", s[i]);
        else if (s[i] < 0x20 || s[i] == 0x7F)
            text_format(text, "\\u%04x", s[i]);
        else if (s[i] == '"' || s[i] == '\\')
            text_format(text, "\\%c", s[i]);
        else
            text_add(text, s + i, whole);
        i += whole ? whole : 1;
    }
    text_add(text, "\"", 1);
}

void text_json_string(struct text *text, const char *string_or_null) {
    if (string_or_null)
        text_json(text, string_or_null, strlen(string_or_null));
    else
        text_add(text, "null", 4);
}

void text_field(struct text *text, const char *bytes, size_t length) {
    if (!length)
        text_add(text, "%-", 2);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c < '!' || c > '~' || c == '%')
            text_format(text, "%%%02X", c);
        else
            text_add(text, &c, 1);
    }
}

void text_free(struct text *text) {
    free(text->data);
    *text = (struct text){0};
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool field_decode(char *field) {
    char *out = field;
    if (!strcmp(field, "%-")) {
        *field = 0;
        return true;
    }
    for (const char *in = field; *in; out++) {
        if (*in < '!' || *in > '~')
            return false;
        if (*in != '%') {
            *out = *in++;
            continue;
        }
        int high = hex_digit(in[1]), low = high < 0 ? -1 : hex_digit(in[2]);
        if (low < 0 || high + low == 0)
            return false;
        *out = (char)(high << 4 | low);
        in += 3;
    }
    *out = 0;
    return true;
}

bool parse_int(const char *string, int64_t low, int64_t high, int64_t *value) {
    const char *digits = string + (*string == '-');
    if (!*digits || strspn(digits, "0123456789") != strlen(digits))
        return false;
    errno = 0;
    long long parsed = strtoll(string, NULL, 10);
    *value = parsed;
    return !errno && parsed >= low && parsed <= high;
}

bool write_all(int fd, const void *bytes, size_t length) {
    for (const char *at = bytes; length;) {
        ssize_t n = write(fd, at, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        length -= (size_t)n;
    }
    return true;
}

bool read_whole(int dir, const char *path, size_t limit, struct text *into) {
    int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = 1;
    while (n > 0 && into->length < limit) {
        size_t room = limit - into->length < 65536 ? limit - into->length : 65536;
        reserve(into, room);
        n = read(fd, into->data + into->length, room);
        if (n > 0)
            into->length += (size_t)n;
        into->data[into->length] = 0;
    }
    int error = errno;
    close(fd);
    errno = error;
    return n >= 0;
}

void complain(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("melt-agent: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}
