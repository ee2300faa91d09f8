// Encoding and decoding, bytewise.
#include "cache/messages.hpp"

namespace ff {
namespace {

void store_header(std::byte* at, MessageType type, std::size_t body, std::uint64_t id) noexcept {
    store_le(at, static_cast<std::uint16_t>(type));
    store_le(at + 2, std::uint16_t{0});
    store_le(at + 4, static_cast<std::uint32_t>(body));
    store_le(at + 8, id);
}

[[noreturn]] void malformed(const std::string& what) {
    throw Error(Code::daemon, "the cache daemon sent a message that is none: " + what +
                                  ". Do daemon and client have versions that go together?");
}

// The body must have at least `bytes`.
void need(Bytes body, std::size_t bytes, const char* name) {
    if (body.size() < bytes)
        malformed(std::string(name) + " has a body of " + std::to_string(body.size()) + " bytes, not " +
                  std::to_string(bytes));
}

Code code_of(AnswerCode code) noexcept {
    switch (code) {
        case AnswerCode::origin_changed: return Code::origin_changed;
        case AnswerCode::origin:
        case AnswerCode::not_found:
        case AnswerCode::timeout: return Code::origin;
        case AnswerCode::corrupt: return Code::corrupt;
        case AnswerCode::cache_full: return Code::cache_full;
        case AnswerCode::denied:
        case AnswerCode::config: return Code::config;
        case AnswerCode::unsupported:
        case AnswerCode::malformed:
        case AnswerCode::draining: return Code::daemon;
        case AnswerCode::internal: return Code::internal;
    }
    return Code::daemon;  // of a daemon that knows more
}

}  // namespace

std::array<std::byte, GetMessage::kBytes> encode(const GetMessage& get) noexcept {
    std::array<std::byte, GetMessage::kBytes> packet;
    store_header(packet.data(), MessageType::get, packet.size() - kMessageHeaderBytes, get.id);
    std::byte* body = packet.data() + kMessageHeaderBytes;
    store_le(body, get.set);
    store_le(body + 4, get.object);
    store_le(body + 8, get.offset);
    store_le(body + 16, get.length);
    store_le(body + 20, get.flags);
    store_le(body + 24, get.entry);
    store_le(body + 32, get.deadline_ms);
    return packet;
}

std::array<std::byte, kMessageHeaderBytes> encode_release(std::uint64_t id) noexcept {
    std::array<std::byte, kMessageHeaderBytes> packet;
    store_header(packet.data(), MessageType::release, 0, id);
    return packet;
}

Answer parse_answer(Bytes packet) {
    if (packet.size() < kMessageHeaderBytes || packet.size() > kMessageBytesMax)
        malformed("it has " + std::to_string(packet.size()) + " bytes");
    const auto type = load_le<std::uint16_t>(packet.data());
    const auto length = load_le<std::uint32_t>(packet.data() + 4);
    const Bytes body = packet.subspan(kMessageHeaderBytes);
    if (length != body.size())
        malformed("its header says " + std::to_string(length) + " bytes of body, there are " +
                  std::to_string(body.size()));
    Answer answer;
    answer.id = load_le<std::uint64_t>(packet.data() + 8);
    switch (static_cast<MessageType>(type)) {
        case MessageType::in_slot:
            need(body, 8, "IN_SLOT");
            answer.kind = Answer::Kind::in_slot;
            answer.entry = load_le<std::uint64_t>(body.data());
            break;
        case MessageType::in_ring:
            need(body, 12, "IN_RING");
            answer.kind = Answer::Kind::in_ring;
            answer.at = load_le<std::uint64_t>(body.data());
            answer.length = load_le<std::uint32_t>(body.data() + 8);
            break;
        case MessageType::error: {
            need(body, 6, "ERROR");
            const std::size_t text = load_le<std::uint16_t>(body.data() + 4);
            need(body.subspan(6), text, "ERROR's text");
            answer.kind = Answer::Kind::error;
            answer.code = static_cast<AnswerCode>(load_le<std::uint32_t>(body.data()));
            answer.text.assign(reinterpret_cast<const char*>(body.data() + 6), text);
            break;
        }
        default: break;
    }
    return answer;
}

bool ring_range_holds(const Answer& answer, std::uint64_t wanted, std::uint64_t ring_bytes) noexcept {
    return answer.length == wanted && answer.at <= ring_bytes && answer.length <= ring_bytes - answer.at;
}

Error error_of(const Answer& answer) {
    return Error(code_of(answer.code), answer.text.empty() ? "the cache daemon refused the read (code " +
                                                                 std::to_string(static_cast<unsigned>(answer.code)) +
                                                                 ")"
                                                           : answer.text);
}

}  // namespace ff
