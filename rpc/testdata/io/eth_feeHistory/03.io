>> {"id":1,"jsonrpc":"2.0","method":"eth_feeHistory","params":[0,"latest",null]}
<< {"jsonrpc":"2.0","id":1,"result":{"oldestBlock":"0x0","baseFeePerGas":[],"gasUsedRatio":[],"baseFeePerBlobGas":[],"blobGasUsedRatio":[]}}
